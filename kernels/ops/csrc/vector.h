// As many floats at a time as a register holds, in the vector types that GCC and clang share. Types
// that are wider than a register would do everywhere, but GCC keeps them in memory.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace ramet {

#if defined __AVX512F__
constexpr int kLanes = 16, kRegisters = 32;
#elif defined __AVX2__
constexpr int kLanes = 8, kRegisters = 16;
#elif defined __aarch64__
constexpr int kLanes = 4, kRegisters = 32;
#else
constexpr int kLanes = 4, kRegisters = 16;
#endif

typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef int32_t Ints __attribute__((vector_size(4 * kLanes)));
typedef uint32_t Words __attribute__((vector_size(4 * kLanes)));
typedef uint16_t Shorts __attribute__((vector_size(2 * kLanes)));

inline Floats all(float x) { return x - Floats{}; }

inline Words widened(Shorts x) {
#if defined __AVX512F__
  return (Words)_mm512_cvtepu16_epi32((__m256i)x);
#elif defined __AVX2__
  return (Words)_mm256_cvtepu16_epi32((__m128i)x);
#else
  return __builtin_convertvector(x, Words);
#endif
}

template <typename T>
inline Floats load(const T* from) {
  Floats x;
  if constexpr (std::is_same_v<T, float>) {
    std::memcpy(&x, from, sizeof x);
  } else if constexpr (std::is_same_v<T, c10::BFloat16>) {
    Shorts half;
    std::memcpy(&half, from, sizeof half);
    x = (Floats)(widened(half) << 16);
#if defined __AVX512F__ || (defined __AVX2__ && defined __F16C__)
  } else if constexpr (std::is_same_v<T, c10::Half>) {
    Shorts half;
    std::memcpy(&half, from, sizeof half);
#ifdef __AVX512F__
    x = (Floats)_mm512_cvtph_ps((__m256i)half);
#else
    x = (Floats)_mm256_cvtph_ps((__m128i)half);
#endif
#endif
  } else {
    for (int i = 0; i < kLanes; ++i) x[i] = static_cast<float>(from[i]);
  }
  return x;
}

template <typename T>
inline Floats load_some(const T* from, int count) {
  if (count == kLanes) return load(from);
  float part[kLanes] = {};
  for (int i = 0; i < count; ++i) part[i] = static_cast<float>(from[i]);
  return load(part);
}

inline void store(float* to, Floats x) { std::memcpy(to, &x, sizeof x); }

// A row of any type, as floats.
template <typename T>
inline void widen(const T* from, int64_t size, float* to) {
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) store(to + i, load(from + i));
  for (; i < size; ++i) to[i] = static_cast<float>(from[i]);
}

template <typename T>
inline void store_some(T* to, Floats x, int count) {
  if constexpr (std::is_same_v<T, float>) {
    std::memcpy(to, &x, count * sizeof(float));
  } else {
    for (int i = 0; i < count; ++i) to[i] = static_cast<T>(x[i]);
  }
}

template <typename Vector>
inline Vector larger(Vector a, Vector b) {
  return a > b ? a : b;
}

// Each lane's neighbour at a distance that is a power of 2, round a circle of twice that.
template <int Bit, typename Vector, int... Lane>
inline Vector across_from(Vector x, std::integer_sequence<int, Lane...>) {
  return __builtin_shufflevector(x, x, (Lane ^ Bit)...);
}

template <int Bit, typename Vector>
inline Vector across_from(Vector x) {
  return across_from<Bit>(x, std::make_integer_sequence<int, kLanes>{});
}

template <int Bit = kLanes / 2, typename Vector>
inline auto sum(Vector x) {
  if constexpr (Bit == 1)
    return x[0] + x[1];
  else
    return sum<Bit / 2>(x + across_from<Bit>(x));
}

template <int Bit = kLanes / 2, typename Vector>
inline auto largest(Vector x) {
  if constexpr (Bit == 1)
    return x[0] > x[1] ? x[0] : x[1];
  else
    return largest<Bit / 2>(larger(x, across_from<Bit>(x)));
}

// exp(x) for x <= 0 and not NaN, to a few units in the last place; 0 below -87.
// 2^n * exp(r) with |r| <= ln(2) / 2 in two parts, and Taylor's polynomial of exp to degree 7.
inline Floats exp_negative(Floats x) {
  const Floats low = all(-87.0f);
  const Ints vanishes = x < low;
  x = larger(x, low);
  const Floats shifted = x * 1.44269504f + 12582912.0f;  // rounds: 1.5 * 2^23 leaves no fraction
  const Floats n = shifted - 12582912.0f;
  const Floats r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
  Floats p = all(1.0f / 5040);
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  Ints bits = (__builtin_convertvector(n, Ints) + 127) << 23;
  Floats scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return vanishes ? Floats{} : p * scale;
}

// tanh(x): its series where the quotient would cancel.
inline Floats tanh(Floats x) {
  const Floats size = x < Floats{} ? -x : x;
  const Floats square = x * x;
  Floats p = all(62.0f / 2835);
  p = p * square - 17.0f / 315;
  p = p * square + 2.0f / 15;
  p = p * square - 1.0f / 3;
  p = p * square + 1.0f;
  const Floats e = exp_negative(-2.0f * size);
  const Floats far = (1.0f - e) / (1.0f + e);
  return size < 0.25f ? x * p : (x < Floats{} ? -far : far);
}

inline float exp_negative(float x) { return exp_negative(all(x))[0]; }

template <int Bit, int... Lane>
inline void swap_blocks(Floats& a, Floats& b, std::integer_sequence<int, Lane...>) {
  const Floats low = __builtin_shufflevector(a, b, ((Lane & Bit) ? kLanes + Lane - Bit : Lane)...);
  b = __builtin_shufflevector(a, b, ((Lane & Bit) ? kLanes + Lane : Lane + Bit)...);
  a = low;
}

// A square matrix, in place: blocks off the diagonal change sides, halving their size.
template <int Bit = kLanes / 2>
inline void transpose(Floats* rows) {
  for (int i = 0; i < kLanes; ++i)
    if (!(i & Bit))
      swap_blocks<Bit>(rows[i], rows[i | Bit], std::make_integer_sequence<int, kLanes>{});
  if constexpr (Bit > 1) transpose<Bit / 2>(rows);
}

template <int Bit, int... Lane>
inline Floats fold(Floats a, Floats b, std::integer_sequence<int, Lane...>) {
  return __builtin_shufflevector(a, b, ((Lane & Bit) ? kLanes + Lane - Bit : Lane)...) +
         __builtin_shufflevector(a, b, ((Lane & Bit) ? kLanes + Lane : Lane + Bit)...);
}

// The sums of the rows of a square matrix, as one row; theirs are used up.
template <int Bit = kLanes / 2>
inline Floats sums(Floats* rows) {
  for (int i = 0; i < Bit; ++i)
    rows[i] = fold<Bit>(rows[i], rows[i | Bit], std::make_integer_sequence<int, kLanes>{});
  if constexpr (Bit > 1) return sums<Bit / 2>(rows);
  return rows[0];
}

}  // namespace ramet
