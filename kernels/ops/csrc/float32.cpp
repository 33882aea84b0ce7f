// Linear layers in float32, their weights in panels of 32 outputs.
//
// A panel lies input by input, so a product reads it from one end to the other, once for up to 12
// rows, whose sums stay in registers. Each sum is taken in the order of the inputs, however many rows
// there are: a row's result depends on no other row.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>

#include "linear.h"

namespace ramet {
namespace {

constexpr int kRows = 12;             // rows that share a load of weights: 24 registers of sums
constexpr int64_t kPanel = 1 << 18;   // at most, numbers of rows that stay in the cache
constexpr int kAhead = 16 * kOutputs;  // weights that are asked for before they are used

template <int Rows>
void tile(const float* x, int64_t inputs, const float* weights, int64_t block, int64_t row,
          const Output& output) {
  Floats sums[Rows][2] = {};
  for (int64_t i = 0; i < inputs; ++i, weights += kOutputs) {
    __builtin_prefetch(weights + kAhead);
    __builtin_prefetch(weights + kAhead + kLanes);
    const Floats left = load(weights), right = load(weights + kLanes);
    for (int r = 0; r < Rows; ++r) {
      const float input = x[(row + r) * inputs + i];
      sums[r][0] += input * left;
      sums[r][1] += input * right;
    }
  }
  for (int r = 0; r < Rows; ++r)
    for (int half = 0; half < 2; ++half)
      put(output, row + r, block * kOutputs + half * kLanes, sums[r][half]);
}

template <int Rows>
void tile_of(int64_t rows, const float* x, int64_t inputs, const float* weights, int64_t block,
             int64_t row, const Output& output) {
  if constexpr (Rows > 0) {
    if (rows == Rows)
      tile<Rows>(x, inputs, weights, block, row, output);
    else
      tile_of<Rows - 1>(rows, x, inputs, weights, block, row, output);
  }
}

at::Tensor float_linear(const at::Tensor& x, const at::Tensor& weight, int64_t outputs,
                        const std::optional<at::Tensor>& bias,
                        const std::optional<at::Tensor>& residual,
                        const std::optional<at::Tensor>& norm_weight, double eps, bool gated) {
  const Around around{bias, residual, norm_weight, eps, gated};
  const int64_t rows = x.size(0), size = around.check(x, outputs);
  check(weight, at::kFloat, "the weight");
  TORCH_CHECK(weight.dim() == 3 && weight.size(2) == kOutputs &&
                  weight.size(0) == (outputs + kOutputs - 1) / kOutputs,
              "linear: a weight as pack() makes it");
  TORCH_CHECK(weight.size(1) == size, "linear: the input has ", size, " columns, the weight ",
              weight.size(1));
  at::Tensor ready = x;
  if (!around.nothing_before()) {
    ready = at::empty({rows, size}, x.options());
    float* to = ready.data_ptr<float>();
    at::parallel_for(0, rows, 8, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) around.before(x, row, size, to + row * size);
    });
  }
  const at::Tensor out = at::empty({rows, outputs}, x.options());
  const Output output = around.after(out);
  const float* from = ready.const_data_ptr<float>();
  const float* weights = weight.const_data_ptr<float>();
  const int64_t most = std::max<int64_t>(kRows, kPanel / std::max<int64_t>(1, size));
  at::parallel_for(0, weight.size(0), 1, [&](int64_t first, int64_t last) {
    for (int64_t panel = 0; panel < rows; panel += most) {
      const int64_t end = std::min(rows, panel + most);
      for (int64_t block = first; block < last; ++block) {
        int64_t tiles = (end - panel + kRows - 1) / kRows;
        for (int64_t row = panel; row < end; --tiles) {
          const int64_t some = (end - row + tiles - 1) / tiles;
          tile_of<kRows>(some, from, size, weights + block * size * kOutputs, block, row, output);
          row += some;
        }
      }
    }
  });
  return out;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(ramet, library) {
  library.def(
      "float_linear(Tensor x, Tensor weight, int outputs, Tensor? bias, Tensor? residual, "
      "Tensor? norm, float eps, bool gated) -> Tensor",
      &float_linear);
}

}  // namespace ramet
