// Linear layers in int8: weights in groups with a scale each, activations quantized on the way in.
//
// Along the inputs, every kGroup weights of an output share a scale, and every kGroup activations of
// a row (as in llama.cpp's Q8_0). A row's result depends on no other row, and its sums are taken in
// one order however many rows there are. A weight is stored as its value + 128, so that it is the
// unsigned side of the processor's dot products of 4 bytes (VNNI); the 128 is taken back by the sum
// of the row's activations in the group. Where there are none, both sides are widened to 2 bytes, whose
// products are added in pairs. All of these sums are exact.
//
// Before either is quantized, each group is rotated by a Hadamard matrix, which changes no product
// and spreads outliers over the group (QuaRot, arXiv 2404.00456, section 3).
//
// What comes before the layer (linear.h) is done while its input is quantized, what comes after while
// its output is stored.

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "linear.h"

#ifdef __SSE2__
#include <immintrin.h>
#endif

namespace ramet {
namespace {

constexpr int kGroup = 64;                   // inputs that share a scale
constexpr int kStep = 4;                     // inputs of one dot product
constexpr int kRows = kLanes == 16 ? 6 : 3;  // rows that share a load of weights
constexpr int64_t kPanel = 40 * kRows;       // at most, rows whose activations stay in the cache

// A step of weights, and what adds its dot products with a row's inputs to their sums.
#if defined __AVX512VNNI__ || (defined __AVXVNNI__ && !defined __AVX512F__)
using Input = int8_t;
using Step = Ints;

inline Step split(Ints weights) { return weights; }

inline Ints dot(Ints sums, Step weights, const Input* x) {
  int32_t inputs;
  std::memcpy(&inputs, x, sizeof inputs);
#ifdef __AVX512VNNI__
  return (Ints)_mm512_dpbusd_epi32((__m512i)sums, (__m512i)weights, _mm512_set1_epi32(inputs));
#else
  return (Ints)_mm256_dpbusd_avx_epi32((__m256i)sums, (__m256i)weights, _mm256_set1_epi32(inputs));
#endif
}
#else
using Input = int16_t;
struct Step {
  Ints even, odd;  // pairs of weights, 2 bytes each
};

inline Step split(Ints weights) {
  typedef uint16_t Pairs __attribute__((vector_size(4 * kLanes)));
  return {weights & 0x00ff00ff, (Ints)((Pairs)weights >> 8)};
}

// Adds the sums of products of pairs.
inline Ints dot_pairs(Ints sums, Ints weights, const Input* x) {
  int32_t pair;
  std::memcpy(&pair, x, sizeof pair);
  const Ints inputs = Ints{} + pair;
#if defined __AVX512BW__
  return sums + (Ints)_mm512_madd_epi16((__m512i)weights, (__m512i)inputs);
#elif defined __AVX2__
  return sums + (Ints)_mm256_madd_epi16((__m256i)weights, (__m256i)inputs);
#elif defined __SSE2__
  return sums + (Ints)_mm_madd_epi16((__m128i)weights, (__m128i)inputs);
#else
  return sums + (weights & 0xffff) * int32_t(x[0]) + (weights >> 16) * int32_t(x[1]);
#endif
}

inline Ints dot(Ints sums, Step weights, const Input* x) {
  return dot_pairs(dot_pairs(sums, weights.even, x), weights.odd, x + 2);
}
#endif

// Inputs as `dot` takes them: in pairs, the even ones of a step before the odd ones.
template <int... Lane>
inline void put_inputs(Ints whole, Input* to, std::integer_sequence<int, Lane...>) {
  typedef Input Some __attribute__((vector_size(sizeof(Input) * kLanes)));
  if constexpr (sizeof(Input) == 2)
    whole = __builtin_shufflevector(whole, whole,
                                    ((Lane & ~3) | (Lane & 1) << 1 | (Lane & 2) >> 1)...);
  const Some some = __builtin_convertvector(whole, Some);
  std::memcpy(to, &some, sizeof some);
}

// The input of a layer, quantized.
struct Inputs {
  int64_t groups;
  const Input* values;    // [rows, groups * kGroup]
  const float* scales;    // [rows, groups]
  const int32_t* starts;  // [rows, groups], -128 times the sum of each group
};

struct Weights {
  const uint8_t* values;  // [blocks, groups, kGroup / kStep, kOutputs, kStep]
  const float* scales;    // [blocks, groups, kOutputs]
};

template <int Bit, int... Lane>
inline Floats butterfly(Floats x, std::integer_sequence<int, Lane...>) {
  const Floats signs = {((Lane & Bit) ? -1.0f : 1.0f)...};
  return across_from<Bit>(x) + x * signs;
}

template <int Bit = 1>
inline Floats butterflies(Floats x) {
  if constexpr (Bit == kLanes)
    return x;
  else
    return butterflies<2 * Bit>(butterfly<Bit>(x, std::make_integer_sequence<int, kLanes>{}));
}

constexpr int kParts = kGroup / kLanes;

// A group by the Hadamard matrix of Sylvester's construction over the root of its size.
inline void rotate(const float* group, Floats (&to)[kParts]) {
  static_assert(kGroup == 64, "the root is 8");
  for (int i = 0; i < kParts; ++i) to[i] = butterflies(load(group + i * kLanes));
  for (int bit = 1; bit < kParts; bit *= 2)
    for (int i = 0; i < kParts; ++i)
      if (!(i & bit)) {
        const Floats a = to[i], b = to[i | bit];
        to[i] = a + b, to[i | bit] = a - b;
      }
  for (Floats& part : to) part *= 0.125f;
}

inline void quantize(const float* row, int64_t groups, Input* values, float* scales,
                     int32_t* starts) {
  for (int64_t group = 0; group < groups; ++group, row += kGroup, values += kGroup) {
    Floats turned[kParts];
    Ints most{};  // as bits, among which infinity and NaN are the largest
    rotate(row, turned);
    for (const Floats& x : turned) most = larger((Ints)x & 0x7fffffff, most);
    const int32_t bits = largest(most);
    float peak;
    std::memcpy(&peak, &bits, sizeof peak);
    const float inverse = peak > 0 ? 127.0f / peak : 0.0f;
    Ints total{};
    for (int i = 0; i < kParts; ++i) {
      const Floats shifted = turned[i] * inverse + 12582912.0f;  // rounds: 1.5 * 2^23
      const Ints whole = __builtin_convertvector(shifted - 12582912.0f, Ints);
      total += whole;
      put_inputs(whole, values + i * kLanes, std::make_integer_sequence<int, kLanes>{});
    }
    scales[group] = peak / 127.0f;  // what is not finite makes a row that is not
    starts[group] = -128 * sum(total);
  }
}

// One block of outputs for some rows.
template <int Rows>
void tile(const Inputs& in, const Weights& weights, int64_t block, int64_t row, Ahead ahead,
          const Output& output) {
  const int64_t groups = in.groups, size = groups * kGroup * kOutputs;
  const uint8_t* w = weights.values + block * size;
  const float* scales = weights.scales + block * groups * kOutputs;
  Floats result[Rows][kVectors] = {};
  for (int64_t group = 0; group < groups; ++group, scales += kOutputs) {
    Ints sums[Rows][kVectors];
    for (int r = 0; r < Rows; ++r)
      for (int v = 0; v < kVectors; ++v)
        sums[r][v] = Ints{} + in.starts[(row + r) * groups + group];
    const Input* x = in.values + (row * groups + group) * kGroup;
    for (int step = 0; step < kGroup; step += kStep, w += kStep * kOutputs) {
      if (ahead.turn())
        for (int at = 0; at < kStep * kOutputs; at += 64) __builtin_prefetch(w + size + at);
      Step some[kVectors];
      for (int v = 0; v < kVectors; ++v) {
        Ints bytes;
        std::memcpy(&bytes, w + v * sizeof bytes, sizeof bytes);
        some[v] = split(bytes);
      }
      for (int r = 0; r < Rows; ++r)
        for (int v = 0; v < kVectors; ++v)
          sums[r][v] = dot(sums[r][v], some[v], x + r * groups * kGroup + step);
    }
    for (int v = 0; v < kVectors; ++v) {
      const Floats of_weights = load(scales + v * kLanes);
      for (int r = 0; r < Rows; ++r)
        result[r][v] += __builtin_convertvector(sums[r][v], Floats) *
                        (of_weights * in.scales[(row + r) * groups + group]);
    }
  }
  for (int r = 0; r < Rows; ++r)
    for (int v = 0; v < kVectors; ++v)
      put(output, row + r, block * kOutputs + v * kLanes, result[r][v]);
}

}  // namespace

at::Tensor int8_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scales,
                       int64_t outputs, const MaybeTensor& bias,
                       const MaybeTensor& residual,
                       const MaybeTensor& norm_weight, double eps, bool gated) {
  const Around around{bias, residual, norm_weight, eps, gated};
  const int64_t rows = x.size(0), blocks = scales.size(0), groups = scales.size(1);
  const int64_t padded = groups * kGroup, size = around.check(x, outputs);
  check(weight, at::kByte, "the weight");
  check(scales, at::kFloat, "the weight's scales");
  TORCH_CHECK(scales.dim() == 3 && scales.size(2) == kOutputs &&
                  weight.numel() == scales.numel() * kGroup &&
                  blocks == parts(outputs, kOutputs),
              "linear: a weight as pack() makes it");
  TORCH_CHECK(size <= padded && size > padded - kGroup, "linear: the input has ", size,
              " columns, the weight about ", padded);

  constexpr at::ScalarType kInput = sizeof(Input) == 1 ? at::kChar : at::kShort;
  const at::Tensor values = at::empty({rows, padded}, x.options().dtype(kInput));
  const at::Tensor factors = at::empty({rows, groups}, x.options());
  const at::Tensor starts = at::empty({rows, groups}, x.options().dtype(at::kInt));
  const at::Tensor out = at::empty({rows, outputs}, x.options());
  Input* to = values.data_ptr<Input>();
  float* to_factors = factors.data_ptr<float>();
  int32_t* to_starts = starts.data_ptr<int32_t>();
  at::parallel_for(0, rows, 8, [&](int64_t first, int64_t last) {
    std::vector<float> scratch(padded);
    for (int64_t row = first; row < last; ++row) {
      around.before(x, row, size, scratch.data());
      std::fill(scratch.begin() + size, scratch.end(), 0.0f);
      quantize(scratch.data(), groups, to + row * padded, to_factors + row * groups,
               to_starts + row * groups);
    }
  });

  const Inputs in{groups, to, to_factors, to_starts};
  const Weights weights{weight.const_data_ptr<uint8_t>(), scales.const_data_ptr<float>()};
  const Output output = around.after(out);
  each_tile<kRows>(rows, blocks, kPanel, [&](auto count, int64_t block, int64_t row, Ahead ahead) {
    tile<decltype(count)::value>(in, weights, block, row, ahead, output);
  });
  return out;
}

TORCH_LIBRARY_FRAGMENT(ramet, library) {
  library.def(
      "int8_linear(Tensor x, Tensor weight, Tensor scales, int outputs, Tensor? bias, "
      "Tensor? residual, Tensor? norm, float eps, bool gated) -> Tensor",
      &int8_linear);
}

}  // namespace ramet
