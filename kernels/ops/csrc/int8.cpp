// Linear layers in int8: weights in groups with a scale each, activations quantized on the way in.
//
// Along the inputs, every kGroup weights of an output share a scale, and every kGroup activations of
// a row (as in llama.cpp's Q8_0). A row's result depends on no other row, and its sums are taken in
// one order however many rows there are. A weight is stored as its value + 128, so that it is the
// unsigned side of the processor's dot products of 4 bytes (VNNI); the 128 is taken back by the sum
// of the row's activations in the group.
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

#ifdef __AVX512VNNI__
#include <immintrin.h>
#endif

namespace ramet {
namespace {

constexpr int kGroup = 64;          // inputs that share a scale
constexpr int kStep = 4;            // inputs of one dot product
constexpr int kRows = 6;            // rows that share a load of weights: 24 registers of sums
constexpr int64_t kPanel = 40 * kRows;  // at most, rows whose activations stay in the cache

typedef int8_t Bytes __attribute__((vector_size(16)));

// Adds to 16 sums the dot products of 4 unsigned bytes each with the same 4 signed ones.
inline Ints dot(Ints sums, Ints weights, int32_t inputs) {
#ifdef __AVX512VNNI__
  return (Ints)_mm512_dpbusd_epi32((__m512i)sums, (__m512i)weights, _mm512_set1_epi32(inputs));
#else
  const Words bytes = (Words)weights;
  for (int i = 0; i < kStep; ++i)
    sums += (Ints)((bytes >> (8 * i)) & 255u) * int32_t(int8_t(inputs >> (8 * i)));
  return sums;
#endif
}

// The input of a layer, quantized.
struct Inputs {
  int64_t groups;
  const int8_t* values;  // [rows, groups * kGroup]
  const float* scales;   // [rows, groups]
  const int32_t* sums;   // [rows, groups]
};

struct Weights {
  const uint8_t* values;  // [blocks, groups, kGroup / kStep, kOutputs, kStep]
  const float* scales;    // [blocks, groups, kOutputs]
};

template <int Bit, int... Lane>
inline Floats butterfly(Floats x, std::integer_sequence<int, Lane...>) {
  const Floats signs = {((Lane & Bit) ? -1.0f : 1.0f)...};
  return __builtin_shufflevector(x, x, (Lane ^ Bit)...) + x * signs;
}

template <int Bit>
inline Floats butterfly(Floats x) {
  return butterfly<Bit>(x, std::make_integer_sequence<int, kLanes>{});
}

// A group by the Hadamard matrix of Sylvester's construction over the root of its size, in place.
inline void rotate(float* group) {
  constexpr int kVectors = kGroup / kLanes;
  static_assert(kVectors == 4 && kGroup == 64, "the root is 8");
  Floats x[kVectors];
  for (int i = 0; i < kVectors; ++i)
    x[i] = butterfly<8>(butterfly<4>(butterfly<2>(butterfly<1>(load(group + i * kLanes)))));
  const Floats a = x[0] + x[1], b = x[0] - x[1], c = x[2] + x[3], d = x[2] - x[3];
  store(group, (a + c) * 0.125f);
  store(group + kLanes, (b + d) * 0.125f);
  store(group + 2 * kLanes, (a - c) * 0.125f);
  store(group + 3 * kLanes, (b - d) * 0.125f);
}

// The row's groups are rotated in place.
inline void quantize(float* row, int64_t groups, int8_t* values, float* scales,
                     int32_t* sums) {
  for (int64_t group = 0; group < groups; ++group, row += kGroup, values += kGroup) {
    rotate(row);
    Floats most{}, unsound{};
    for (int i = 0; i < kGroup; i += kLanes) {
      const Floats x = load(row + i);
      most = larger(x < Floats{} ? -x : x, most);
      unsound += x - x;  // NaN for what is not finite
    }
    float peak = 0;
    for (int i = 0; i < kLanes; ++i) peak = std::max(peak, most[i]);
    const float inverse = peak > 0 ? 127.0f / peak : 0.0f;
    Ints total{};
    for (int i = 0; i < kGroup; i += kLanes) {
      const Floats shifted = load(row + i) * inverse + 12582912.0f;  // rounds: 1.5 * 2^23
      const Ints whole = __builtin_convertvector(shifted - 12582912.0f, Ints);
      total += whole;
      const Bytes bytes = __builtin_convertvector(whole, Bytes);
      std::memcpy(values + i, &bytes, sizeof bytes);
    }
    int32_t sum_of_group = 0;
    for (int i = 0; i < kLanes; ++i) sum_of_group += total[i];
    scales[group] = peak / 127.0f + sum(unsound);
    sums[group] = sum_of_group;
  }
}

// One block of outputs for some rows.
template <int Rows>
void tile(const Inputs& in, const Weights& weights, int64_t block, int64_t row,
          const Output& output) {
  const int64_t groups = in.groups;
  const uint8_t* w = weights.values + block * groups * kGroup * kOutputs;
  const float* scales = weights.scales + block * groups * kOutputs;
  Floats result[Rows][2] = {};
  for (int64_t group = 0; group < groups; ++group, scales += kOutputs) {
    Ints sums[Rows][2];
    for (int r = 0; r < Rows; ++r)
      sums[r][0] = sums[r][1] = Ints{} - 128 * in.sums[(row + r) * groups + group];
    const int8_t* x = in.values + (row * groups + group) * kGroup;
    for (int step = 0; step < kGroup; step += kStep, w += kStep * kOutputs) {
      Ints first, second;
      std::memcpy(&first, w, sizeof first);
      std::memcpy(&second, w + sizeof first, sizeof second);
      for (int r = 0; r < Rows; ++r) {
        int32_t inputs;
        std::memcpy(&inputs, x + r * groups * kGroup + step, sizeof inputs);
        sums[r][0] = dot(sums[r][0], first, inputs);
        sums[r][1] = dot(sums[r][1], second, inputs);
      }
    }
    const Floats left = load(scales), right = load(scales + kLanes);
    for (int r = 0; r < Rows; ++r) {
      const float scale = in.scales[(row + r) * groups + group];
      result[r][0] += __builtin_convertvector(sums[r][0], Floats) * (left * scale);
      result[r][1] += __builtin_convertvector(sums[r][1], Floats) * (right * scale);
    }
  }
  for (int r = 0; r < Rows; ++r)
    for (int half = 0; half < 2; ++half)
      put(output, row + r, block * kOutputs + half * kLanes, result[r][half]);
}

at::Tensor int8_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scales,
                       int64_t outputs, const std::optional<at::Tensor>& bias,
                       const std::optional<at::Tensor>& residual,
                       const std::optional<at::Tensor>& norm_weight, double eps, bool gated) {
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

  const at::Tensor values = at::empty({rows, padded}, x.options().dtype(at::kChar));
  const at::Tensor factors = at::empty({rows, groups}, x.options());
  const at::Tensor sums = at::empty({rows, groups}, x.options().dtype(at::kInt));
  const at::Tensor out = at::empty({rows, outputs}, x.options());
  int8_t* to = values.data_ptr<int8_t>();
  float* to_factors = factors.data_ptr<float>();
  int32_t* to_sums = sums.data_ptr<int32_t>();
  at::parallel_for(0, rows, 8, [&](int64_t first, int64_t last) {
    std::vector<float> scratch(padded);
    for (int64_t row = first; row < last; ++row) {
      around.before(x, row, size, scratch.data());
      std::fill(scratch.begin() + size, scratch.end(), 0.0f);
      quantize(scratch.data(), groups, to + row * padded, to_factors + row * groups,
               to_sums + row * groups);
    }
  });

  const Inputs in{groups, to, to_factors, to_sums};
  const Weights weights{weight.const_data_ptr<uint8_t>(), scales.const_data_ptr<float>()};
  const Output output = around.after(out);
  each_tile<kRows>(rows, blocks, kPanel, [&](auto count, int64_t block, int64_t row) {
    tile<decltype(count)::value>(in, weights, block, row, output);
  });
  return out;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(ramet, library) {
  library.def(
      "int8_linear(Tensor x, Tensor weight, Tensor scales, int outputs, Tensor? bias, "
      "Tensor? residual, Tensor? norm, float eps, bool gated) -> Tensor",
      &int8_linear);
}

}  // namespace ramet
