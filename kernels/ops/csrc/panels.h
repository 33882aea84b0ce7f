// Linear layers whose weights are multiplied as they are kept, in panels of 32 outputs.
//
// A panel lies step by step of the inputs, so a product reads it from one end to the other, once for
// some rows, whose sums stay in registers. Each sum is taken in the order of the inputs, however
// many rows there are: a row's result depends on no other row.
//
// A Kind says which numbers those are:
//   kWeight, Weight  of a weight [panels, steps, 32, kStep]
//   kInput, Input    of an input, and whether it is taken as it comes: kExact
//   kStep            inputs of a step
//   Weights          of a step and a register's outputs: load(from)
//   take(x, n, to)   makes n inputs of a row's float32 numbers, which may lie in the same place
//   add(sums, w, x)  the products of a step, added to a register's sums
#pragma once

#include <ATen/ops/empty.h>

#include <algorithm>
#include <type_traits>
#include <vector>

#include "linear.h"

namespace ramet {

// Rows that share a load of weights: three quarters of the registers hold sums.
constexpr int kRowsOfPanel = kRegisters * 3 / 4 / kVectors;
constexpr int64_t kBytes = 1 << 20;   // at most, of inputs that stay in the cache
constexpr int kAhead = 16;            // steps whose weights are asked for before they are used

template <typename Kind, int Rows>
void tile(const typename Kind::Input* x, int64_t inputs, const typename Kind::Weight* weights,
          int64_t block, int64_t row, const Output& output) {
  constexpr int kPart = kLanes * Kind::kStep, kWhole = kOutputs * Kind::kStep;
  constexpr int kLine = 64 / sizeof *weights;
  Floats sums[Rows][kVectors] = {};
  x += row * inputs;
  for (int64_t i = 0; i < inputs; i += Kind::kStep, weights += kWhole) {
    for (int at = 0; at < kWhole; at += kLine) __builtin_prefetch(weights + kAhead * kWhole + at);
    typename Kind::Weights some[kVectors];
    for (int v = 0; v < kVectors; ++v) some[v] = Kind::load(weights + v * kPart);
    for (int r = 0; r < Rows; ++r)
      for (int v = 0; v < kVectors; ++v)
        sums[r][v] = Kind::add(sums[r][v], some[v], x + r * inputs + i);
  }
  for (int r = 0; r < Rows; ++r)
    for (int v = 0; v < kVectors; ++v)
      put(output, row + r, block * kOutputs + v * kLanes, sums[r][v]);
}

// The inputs of the products [n, padded], of an input with all that comes before.
template <typename Kind>
at::Tensor inputs_of(const at::Tensor& x, const Around& around, int64_t size, int64_t padded) {
  using Input = typename Kind::Input;
  if (Kind::kExact && around.nothing_before()) return x;
  const at::Tensor ready = at::empty({x.size(0), padded}, x.options().dtype(Kind::kInput));
  Input* to = ready.data_ptr<Input>();
  at::parallel_for(0, x.size(0), 8, [&](int64_t first, int64_t last) {
    std::vector<float> scratch(std::is_same_v<Input, float> ? 0 : padded);
    for (int64_t row = first; row < last; ++row) {
      float* numbers = scratch.data();
      if constexpr (std::is_same_v<Input, float>) numbers = to + row * padded;
      around.before(x, row, size, numbers);
      std::fill(numbers + size, numbers + padded, 0.0f);
      Kind::take(numbers, padded, to + row * padded);
    }
  });
  return ready;
}

template <typename Kind>
at::Tensor panel_linear(const at::Tensor& x, const at::Tensor& weight, int64_t outputs,
                        const MaybeTensor& bias,
                        const MaybeTensor& residual,
                        const MaybeTensor& norm_weight, double eps, bool gated) {
  using Input = typename Kind::Input;
  using Weight = typename Kind::Weight;
  const Around around{bias, residual, norm_weight, eps, gated};
  const int64_t rows = x.size(0), size = around.check(x, outputs);
  const int64_t padded = parts(size, Kind::kStep) * Kind::kStep;
  check(weight, Kind::kWeight, "the weight");
  TORCH_CHECK(weight.dim() == 4 && weight.size(0) == parts(outputs, kOutputs) &&
                  weight.size(2) == kOutputs && weight.size(3) == Kind::kStep,
              "linear: a weight as pack() makes it");
  TORCH_CHECK(weight.size(1) * Kind::kStep == padded, "linear: the input has ", size,
              " columns, the weight ", weight.size(1) * Kind::kStep);
  const at::Tensor ready = inputs_of<Kind>(x, around, size, padded);
  const at::Tensor out = at::empty({rows, outputs}, x.options());
  const Output output = around.after(out);
  const Input* from = ready.const_data_ptr<Input>();
  const Weight* weights = weight.const_data_ptr<Weight>();
  const int64_t most = kBytes / int64_t(sizeof(Input)) / std::max<int64_t>(1, padded);
  each_tile<kRowsOfPanel>(
      rows, weight.size(0), most, [&](auto count, int64_t block, int64_t row, Ahead) {
        tile<Kind, decltype(count)::value>(from, padded, weights + block * padded * kOutputs,
                                           block, row, output);
      });
  return out;
}

}  // namespace ramet
