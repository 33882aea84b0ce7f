// The operators that others are made of, each defined in the file that is named with it.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace ramet {

using MaybeTensor = std::optional<at::Tensor>;

// float32.cpp
at::Tensor float_linear(const at::Tensor& x, const at::Tensor& weight, int64_t outputs,
                        const MaybeTensor& bias, const MaybeTensor& residual,
                        const MaybeTensor& norm, double eps, bool gated);

// bfloat16.cpp
at::Tensor bfloat16_linear(const at::Tensor& x, const at::Tensor& weight, int64_t outputs,
                           const MaybeTensor& bias, const MaybeTensor& residual,
                           const MaybeTensor& norm, double eps, bool gated);

// int8.cpp
at::Tensor int8_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scales,
                       int64_t outputs, const MaybeTensor& bias, const MaybeTensor& residual,
                       const MaybeTensor& norm, double eps, bool gated);

// write.cpp
at::Tensor write_joined(const at::Tensor& joined, const at::Tensor& cos, const at::Tensor& sin,
                        const MaybeTensor& query_norm, const MaybeTensor& key_norm, double eps,
                        const at::Tensor& slots, at::Tensor cache);

// attention.cpp
at::Tensor attend(const at::Tensor& query, const at::Tensor& cache, const at::Tensor& tables,
                  const at::Tensor& units, const at::Tensor& passes, const at::Tensor& items,
                  const at::Tensor& ancestors, const at::Tensor& depths, int64_t block,
                  double scale, int64_t window, double softcap);

}  // namespace ramet
