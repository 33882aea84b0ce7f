// What linear layers share, however they keep their weights: what comes before the product (a norm,
// or the gate of a feed-forward), what comes after (a bias, and the sum with a residual), and the
// order in which rows and outputs are gone through.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <type_traits>

#include "operators.h"
#include "vector.h"

namespace ramet {

constexpr int kOutputs = 32;  // outputs that are computed together
constexpr int kVectors = kOutputs / kLanes;

struct Output {
  int64_t size;
  float* values;          // [rows, size]
  const float* bias;      // [size], or none
  const float* residual;  // [rows, size], or none
};

// x / sqrt(mean(x^2) + eps) * weight (arXiv 1910.07467).
inline void norm(const float* x, const float* weight, double eps, int64_t size, float* to) {
  Floats squares{};
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) squares += load(x + i) * load(x + i);
  float total = sum(squares);
  for (; i < size; ++i) total += x[i] * x[i];
  const float factor = 1.0f / std::sqrt(total / float(size) + float(eps));
  for (i = 0; i + kLanes <= size; i += kLanes)
    store(to + i, load(x + i) * factor * load(weight + i));
  for (; i < size; ++i) to[i] = x[i] * factor * weight[i];
}

// silu(gate) * up for [gate, up].
inline void gate(const float* x, int64_t size, float* to) {
  for (int64_t i = 0; i < size; i += kLanes) {
    const int count = int(std::min<int64_t>(kLanes, size - i));
    const Floats g = load_some(x + i, count), up = load_some(x + size + i, count);
    const Floats e = exp_negative(g < Floats{} ? g : -g);  // exp(-|g|)
    const Floats result = g * (g < Floats{} ? e : all(1.0f)) / (1.0f + e) * up;
    std::memcpy(to + i, &result, count * sizeof(float));
  }
}

inline void put(const Output& output, int64_t row, int64_t at, Floats result) {
  const int count = int(std::min<int64_t>(kLanes, output.size - at));
  if (count <= 0) return;
  const int64_t place = row * output.size + at;
  if (output.bias) result += load_some(output.bias + at, count);
  if (output.residual) result += load_some(output.residual + place, count);
  std::memcpy(output.values + place, &result, count * sizeof(float));
}

inline const float* floats(const MaybeTensor& tensor) {
  return tensor ? tensor->const_data_ptr<float>() : nullptr;
}

inline void check(const at::Tensor& tensor, at::ScalarType dtype, const char* name) {
  TORCH_CHECK(tensor.is_contiguous() && tensor.scalar_type() == dtype, "linear: ", name,
              " must be contiguous and of type ", dtype);
}

// All that is around a product, for an input [n, in] or, gated, [n, 2 * in].
struct Around {
  const MaybeTensor& bias;      // [out]
  const MaybeTensor& residual;  // [n, out]
  const MaybeTensor& weight;    // of the norm [in]
  double eps;
  bool gated;

  // The inputs of the product; raises for what does not fit.
  int64_t check(const at::Tensor& x, int64_t outputs) const {
    ramet::check(x, at::kFloat, "the input");
    TORCH_CHECK(x.dim() == 2 && (!gated || x.size(1) % 2 == 0), "linear: an input [n, in]");
    const int64_t size = gated ? x.size(1) / 2 : x.size(1);
    if (bias) ramet::check(*bias, at::kFloat, "the bias");
    if (residual) ramet::check(*residual, at::kFloat, "the residual");
    if (weight) ramet::check(*weight, at::kFloat, "the norm's weight");
    TORCH_CHECK((!bias || bias->numel() == outputs) &&
                    (!residual || residual->numel() == x.size(0) * outputs) &&
                    (!weight || weight->numel() == size),
                "linear: a bias [out], a residual [n, out] and a norm [in] fit the layer");
    return size;
  }

  bool nothing_before() const { return !weight && !gated; }

  void before(const at::Tensor& x, int64_t row, int64_t size, float* to) const {
    const float* from = x.const_data_ptr<float>() + row * x.size(1);
    if (weight) {
      norm(from, weight->const_data_ptr<float>(), eps, size, to);
    } else if (gated) {
      gate(from, size, to);
    } else {
      std::copy_n(from, size, to);
    }
  }

  Output after(const at::Tensor& out) const {
    return {out.size(1), out.data_ptr<float>(), floats(bias), floats(residual)};
  }
};

inline int64_t parts(int64_t whole, int64_t most) { return (whole + most - 1) / most; }

// Calls with a number of 1 to Most as a constant.
template <int Most, typename Call>
void as_constant(int64_t number, const Call& call) {
  if constexpr (Most > 0) {
    if (number == Most)
      call(std::integral_constant<int, Most>{});
    else
      as_constant<Most - 1>(number, call);
  }
}

// Which steps of the next block's weights a tile asks for while it multiplies by its own: the tiles
// that share a block take turns, so that memory is read evenly while all of them are computed.
struct Ahead {
  int64_t wait, every;

  static Ahead never() { return {std::numeric_limits<int64_t>::max(), 1}; }

  bool turn() {
    if (wait-- > 0) return false;
    wait = every - 1;
    return true;
  }
};

// Calls tile(count, block, row, ahead) for each block of outputs and up to Most rows at a time. All
// blocks that a thread has pass by `panel` rows or a few more, whose inputs stay in the cache, before
// the next ones are begun. Rows are parted evenly.
template <int Most, typename Tile>
void each_tile(int64_t rows, int64_t blocks, int64_t panel, const Tile& tile) {
  const int64_t panels = std::max<int64_t>(1, parts(rows, std::max<int64_t>(panel, Most)));
  const int64_t rows_of_panel = parts(parts(rows, panels), Most) * Most;
  at::parallel_for(0, blocks, 1, [&](int64_t first, int64_t last) {
    for (int64_t begin = 0; begin < rows; begin += rows_of_panel) {
      const int64_t end = std::min(rows, begin + rows_of_panel);
      for (int64_t block = first; block < last; ++block) {
        const int64_t tiles = parts(end - begin, Most);
        int64_t row = begin;
        for (int64_t i = 0; i < tiles; ++i) {
          const int64_t count = parts(end - row, tiles - i);
          const Ahead ahead = block + 1 < last ? Ahead{i, tiles} : Ahead::never();
          as_constant<Most>(count, [&](auto constant) { tile(constant, block, row, ahead); });
          row += count;
        }
      }
    }
  });
}

}  // namespace ramet

