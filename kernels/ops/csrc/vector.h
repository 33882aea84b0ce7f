// Sixteen floats at a time, in the vector types that GCC and clang share: 512-bit registers where
// there are some, two or four smaller ones elsewhere.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#ifdef __F16C__
#include <immintrin.h>
#endif

namespace ramet {

constexpr int kLanes = 16;

typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint32_t Words __attribute__((vector_size(64)));
typedef uint16_t Shorts __attribute__((vector_size(32)));

inline Floats all(float x) { return x - Floats{}; }

template <typename T>
inline Floats load(const T* from) {
  Floats x;
  if constexpr (std::is_same_v<T, float>) {
    std::memcpy(&x, from, sizeof x);
#ifdef __AVX512F__
  } else if constexpr (std::is_same_v<T, c10::BFloat16>) {
    __m256i half;
    std::memcpy(&half, from, sizeof half);
    x = (Floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16);
  } else if constexpr (std::is_same_v<T, c10::Half>) {
    __m256i half;
    std::memcpy(&half, from, sizeof half);
    x = (Floats)_mm512_cvtph_ps(half);
#endif
  } else if constexpr (std::is_same_v<T, c10::BFloat16>) {
    Shorts half;
    std::memcpy(&half, from, sizeof half);
    Words bits = __builtin_convertvector(half, Words) << 16;
    std::memcpy(&x, &bits, sizeof x);
#ifdef __F16C__
  } else if constexpr (std::is_same_v<T, c10::Half>) {
    __m128i half[2];
    std::memcpy(half, from, sizeof half);
    const __m256 wide[2] = {_mm256_cvtph_ps(half[0]), _mm256_cvtph_ps(half[1])};
    std::memcpy(&x, wide, sizeof x);
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

inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }

// Each lane's neighbour at a distance that is a power of 2, round a circle of twice that.
template <int Bit, int... Lane>
inline Floats across_from(Floats x, std::integer_sequence<int, Lane...>) {
  return __builtin_shufflevector(x, x, (Lane ^ Bit)...);
}

template <int Bit>
inline Floats across_from(Floats x) {
  return across_from<Bit>(x, std::make_integer_sequence<int, kLanes>{});
}

inline float sum(Floats x) {
  x += across_from<8>(x);
  x += across_from<4>(x);
  x += across_from<2>(x);
  return x[0] + x[1];
}

inline float largest(Floats x) {
  x = larger(x, across_from<8>(x));
  x = larger(x, across_from<4>(x));
  x = larger(x, across_from<2>(x));
  return x[0] > x[1] ? x[0] : x[1];
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

template <int Bit>
inline void transpose_step(Floats* rows) {
  for (int i = 0; i < kLanes; ++i)
    if (!(i & Bit))
      swap_blocks<Bit>(rows[i], rows[i | Bit], std::make_integer_sequence<int, kLanes>{});
}

template <int Bit, int... Lane>
inline Floats fold(Floats a, Floats b, std::integer_sequence<int, Lane...>) {
  return __builtin_shufflevector(a, b, ((Lane & Bit) ? kLanes + Lane - Bit : Lane)...) +
         __builtin_shufflevector(a, b, ((Lane & Bit) ? kLanes + Lane : Lane + Bit)...);
}

template <int Bit>
inline void fold_step(Floats* rows) {
  for (int i = 0; i < Bit; ++i)
    rows[i] = fold<Bit>(rows[i], rows[i | Bit], std::make_integer_sequence<int, kLanes>{});
}

// The sums of 16 rows, as one row; theirs are used up.
inline Floats sums(Floats* rows) {
  fold_step<8>(rows);
  fold_step<4>(rows);
  fold_step<2>(rows);
  fold_step<1>(rows);
  return rows[0];
}

// A matrix of 16 by 16, in place: blocks off the diagonal change sides, halving their size.
inline void transpose(Floats* rows) {
  transpose_step<8>(rows);
  transpose_step<4>(rows);
  transpose_step<2>(rows);
  transpose_step<1>(rows);
}

}  // namespace ramet
