// What kernels ask of the tensors they are given.
#pragma once

#include <ATen/core/Tensor.h>

namespace ramet {

// Calls with T, the cache's type, and X, that of a step's rows, which `fits` allows.
#define RAMET_BY_DTYPE(rows, cache, call)                                                \
  switch ((cache).scalar_type()) {                                                       \
    case at::kFloat: { using T = float; using X = float; call; break; }                  \
    case at::kBFloat16: { using T = c10::BFloat16; RAMET_BY_ROWS(rows, call) break; }    \
    case at::kHalf: { using T = c10::Half; RAMET_BY_ROWS(rows, call) break; }            \
    default: TORCH_CHECK(false, "keys and values must be float32, bfloat16 or float16"); \
  }
#define RAMET_BY_ROWS(rows, call)        \
  if ((rows).scalar_type() == at::kFloat) { \
    using X = float;                     \
    call;                                \
  } else {                               \
    using X = T;                         \
    call;                                \
  }

// Whether rows go with a cache: they are of its type, or float32 where the cache keeps less.
inline bool fits(const at::Tensor& rows, const at::Tensor& cache) {
  return rows.scalar_type() == cache.scalar_type() || rows.scalar_type() == at::kFloat;
}

// Rows may lie apart, but each is whole: [n, heads, dim] with the last two dense.
inline at::Tensor dense(const at::Tensor& rows) {
  const bool whole = rows.stride(2) == 1 && rows.stride(1) == rows.size(2);
  return whole ? rows : rows.contiguous();
}

}  // namespace ramet
