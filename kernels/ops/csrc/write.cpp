// What a step writes into the cache: keys and values as they come, or out of the joined projections
// of a layer, whose queries and keys are normed and rotated on the way (RMS norm, arXiv 1910.07467;
// rotary position embedding, arXiv 2104.09864, of the pairs i and i + dim / 2). Slot -1 says that
// the cache has a token already. A token's results depend on no other token.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "operators.h"
#include "rows.h"
#include "vector.h"

namespace ramet {
namespace {

constexpr int64_t kRowsOfThread = 16;  // fewer are not worth a second thread

void check_slots(const at::Tensor& slots, const at::Tensor& cache) {
  const int64_t* slot = slots.const_data_ptr<int64_t>();
  for (int64_t row = 0; row < slots.size(0); ++row)
    TORCH_CHECK(slot[row] + 1 < cache.size(2), "write: there is no slot ", slot[row]);
}

// A row of another type, or of the same.
template <typename X, typename T>
void copy_row(const X* from, int64_t size, T* to) {
  if constexpr (std::is_same_v<X, T>) {
    std::memcpy(to, from, size * sizeof(T));
  } else {
    for (int64_t i = 0; i < size; i += kLanes) {
      const int count = int(std::min<int64_t>(kLanes, size - i));
      store_some(to + i, load_some(from + i, count), count);
    }
  }
}

template <typename T, typename X>
void write_all(const at::Tensor& key, const at::Tensor& value, const at::Tensor& slots,
               at::Tensor& cache) {
  const int64_t kv_heads = cache.size(1), stride = cache.size(2), dim = cache.size(3);
  const int64_t* slot = slots.const_data_ptr<int64_t>();
  const at::Tensor* parts[] = {&key, &value};
  T* data = cache.mutable_data_ptr<T>();
  for (int part = 0; part < 2; ++part) {
    const X* from = parts[part]->const_data_ptr<X>();
    const int64_t step = parts[part]->stride(0);
    for (int64_t row = 0; row < slots.size(0); ++row)
      for (int64_t head = 0; slot[row] >= 0 && head < kv_heads; ++head)
        copy_row(from + row * step + head * dim, dim,
                 data + ((part * kv_heads + head) * stride + slot[row]) * dim);
  }
}

template <typename X>
struct Turn {
  const X* norm;  // [dim], or none
  float eps;
  const float* cos;  // [dim / 2]
  const float* sin;
  int64_t half;

  // One head: x / sqrt(mean(x^2) + eps) * norm, then each pair by its angle.
  template <typename T>
  void operator()(const X* x, T* to) const {
    const float factor = norm ? 1.0f / std::sqrt(mean_square(x) + eps) : 1.0f;
    for (int64_t i = 0; i < half; i += kLanes) {
      const int count = int(std::min<int64_t>(kLanes, half - i));
      Floats a = load_some(x + i, count), b = load_some(x + half + i, count);
      if (norm) {
        a *= factor * load_some(norm + i, count);
        b *= factor * load_some(norm + half + i, count);
      }
      const Floats c = load_some(cos + i, count), s = load_some(sin + i, count);
      store_some(to + i, a * c - b * s, count);
      store_some(to + half + i, b * c + a * s, count);
    }
  }

  float mean_square(const X* x) const {
    Floats squares{};
    for (int64_t i = 0; i < 2 * half; i += kLanes) {
      const Floats some = load_some(x + i, int(std::min<int64_t>(kLanes, 2 * half - i)));
      squares += some * some;
    }
    return sum(squares) / float(2 * half);
  }
};

template <typename T, typename X>
void write_joined_all(const at::Tensor& joined, const at::Tensor& cos, const at::Tensor& sin,
                      const X* query_norm, const X* key_norm, float eps, const at::Tensor& slots,
                      at::Tensor& cache, at::Tensor& query) {
  const int64_t kv_heads = cache.size(1), stride = cache.size(2), dim = cache.size(3);
  const int64_t heads = query.size(1), half = dim / 2;
  const int64_t* slot = slots.const_data_ptr<int64_t>();
  const X* from = joined.const_data_ptr<X>();
  T* data = cache.mutable_data_ptr<T>();
  X* out = query.mutable_data_ptr<X>();
  const float *cosines = cos.const_data_ptr<float>(), *sines = sin.const_data_ptr<float>();
  at::parallel_for(0, slots.size(0), kRowsOfThread, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      const X* x = from + row * joined.size(1);
      Turn<X> turn{query_norm, eps, cosines + row * half, sines + row * half, half};
      for (int64_t head = 0; head < heads; ++head)
        turn(x + head * dim, out + (row * heads + head) * dim);
      turn.norm = key_norm;
      for (int64_t head = 0; slot[row] >= 0 && head < kv_heads; ++head) {
        const X* key = x + (heads + head) * dim;
        turn(key, data + (head * stride + slot[row]) * dim);
        copy_row(key + kv_heads * dim, dim,
                 data + ((kv_heads + head) * stride + slot[row]) * dim);
      }
    }
  });
}

template <typename X>
const X* weights(const MaybeTensor& norm) {
  return norm ? norm->const_data_ptr<X>() : nullptr;
}

void write(const at::Tensor& key, const at::Tensor& value, const at::Tensor& slots,
           at::Tensor cache) {
  TORCH_CHECK(cache.is_contiguous() && fits(key, cache) &&
                  value.scalar_type() == key.scalar_type(),
              "write: keys and values must be of the cache's type, or float32");
  check_slots(slots, cache);
  const at::Tensor keys = dense(key), values = dense(value);
  RAMET_BY_DTYPE(keys, cache, (write_all<T, X>(keys, values, slots, cache)))
}

}  // namespace

at::Tensor write_joined(const at::Tensor& joined, const at::Tensor& cos, const at::Tensor& sin,
                        const MaybeTensor& query_norm,
                        const MaybeTensor& key_norm, double eps,
                        const at::Tensor& slots, at::Tensor cache) {
  const int64_t rows = slots.size(0), dim = cache.size(3);
  TORCH_CHECK(cache.is_contiguous() && joined.is_contiguous() && joined.dim() == 2 &&
                  joined.size(0) == rows && joined.size(1) % dim == 0 &&
                  joined.size(1) > 2 * cache.size(1) * dim && dim % 2 == 0 &&
                  fits(joined, cache),
              "write_joined: [T, (heads + 2 * kv_heads) * dim] of the cache's type or float32, dim "
              "even");
  for (const auto& angles : {cos, sin})
    TORCH_CHECK(angles.is_contiguous() && angles.scalar_type() == at::kFloat &&
                    angles.numel() == rows * (dim / 2),
                "write_joined: cosines and sines are float32 [T, dim / 2]");
  for (const auto& norm : {query_norm, key_norm})
    TORCH_CHECK(!norm || (norm->is_contiguous() && norm->numel() == dim &&
                          norm->scalar_type() == joined.scalar_type()),
                "write_joined: a norm is [dim], of the type of what it norms");
  check_slots(slots, cache);
  at::Tensor query =
      at::empty({rows, joined.size(1) / dim - 2 * cache.size(1), dim}, joined.options());
  RAMET_BY_DTYPE(joined, cache,
                 (write_joined_all<T, X>(joined, cos, sin, weights<X>(query_norm),
                                         weights<X>(key_norm), float(eps), slots, cache, query)))
  return query;
}

TORCH_LIBRARY_FRAGMENT(ramet, library) {
  library.def("write(Tensor key, Tensor value, Tensor slots, Tensor(a!) cache) -> ()", &write);
  library.def(
      "write_joined(Tensor joined, Tensor cos, Tensor sin, Tensor? query_norm, Tensor? key_norm, "
      "float eps, Tensor slots, Tensor(a!) cache) -> Tensor",
      &write_joined);
}

}  // namespace ramet
