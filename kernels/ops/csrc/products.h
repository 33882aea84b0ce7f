// The two products of attention, scores and weighted values, for some queries over some keys that lie
// anywhere in a cache; and the weights between them (online softmax, arXiv 1805.02867).
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "vector.h"

namespace ramet {

constexpr int kChunk = 256;      // keys whose scores are kept at a time
constexpr int kStride = kChunk;  // of a row of scores
constexpr int kFew = 12;         // queries for which keys are not worth laying across
constexpr int kAhead = 32;       // keys between a read and its prefetch
constexpr float kNever = -std::numeric_limits<float>::infinity();

// Sums in registers.
constexpr int kScoreRows = kRegisters == 32 ? 8 : 6, kScoreVectors = 2;
constexpr int kValueRows = 6, kValueVectors = kRegisters == 32 ? 4 : 2;

// Keys and values of one head [slots + 1, dim].
template <typename T>
struct Cache {
  const T* keys;
  const T* values;
  int64_t dim, block;

  // The slots of the places begin ... end of a table.
  void find(const int64_t* table, int64_t begin, int64_t end, std::vector<int64_t>& slots) const {
    slots.clear();
    while (begin < end) {
      const int64_t first = table[begin / block] * block;
      for (int64_t i = begin % block; i < block && begin < end; ++i, ++begin)
        slots.push_back(first + i);
    }
  }
};

// Queries [count, dim], and what they have seen so far.
struct Queries {
  int64_t count, dim;
  std::vector<float> query, out, most, sum, scores;

  void begin(int64_t n, int64_t d) {
    count = n, dim = d;
    query.resize(n * d);
    out.assign(n * d, 0.0f);
    most.assign(n, kNever);
    sum.assign(n, 0.0f);
    scores.resize(n * kStride);
  }
};

template <typename T>
inline void prefetch(const T* row, int64_t dim) {
  const char* from = reinterpret_cast<const char*>(row);
  for (int64_t byte = 0; byte < dim * int64_t(sizeof(T)); byte += 64)
    __builtin_prefetch(from + byte, 0, 2);
}

// Scores of a few queries for up to kLanes keys, each as one product along the dimensions.
template <typename T>
void score_few(const T* keys, const int64_t* slots, int some, const float* query, int64_t count,
               int64_t dim, float* scores) {
  const T* rows[kLanes];
  for (int k = 0; k < kLanes; ++k) rows[k] = keys + slots[std::min(k, some - 1)] * dim;
  const int64_t whole = dim - dim % kLanes;
  for (int64_t i = 0; i < count; ++i, query += dim, scores += kStride) {
    Floats total[kLanes] = {};
    for (int64_t d = 0; d < whole; d += kLanes) {
      const Floats x = load(query + d);
      for (int k = 0; k < kLanes; ++k) total[k] += x * load(rows[k] + d);
    }
    Floats result = sums(total);
    for (int64_t d = whole; d < dim; ++d)
      for (int k = 0; k < kLanes; ++k) result[k] += query[d] * float(rows[k][d]);
    store(scores, result);
  }
}

// Up to kLanes keys, laid across: [dim, kLanes].
template <typename T>
void lay_across(const T* keys, const int64_t* slots, int some, int64_t dim, float* across) {
  for (int64_t d = 0; d < dim; d += kLanes) {
    const int deep = int(std::min<int64_t>(kLanes, dim - d));
    Floats rows[kLanes] = {};
    for (int k = 0; k < some; ++k) rows[k] = load_some(keys + slots[k] * dim + d, deep);
    transpose(rows);
    for (int i = 0; i < deep; ++i) store(across + (d + i) * kLanes, rows[i]);
  }
}

// Scores of Rows queries for Vectors times kLanes keys that are laid across.
template <int Rows, int Vectors>
void score_tile(const float* across, const float* query, int64_t dim, float* scores) {
  Floats total[Rows][Vectors] = {};
  for (int64_t d = 0; d < dim; ++d) {
    Floats keys[Vectors];
    for (int v = 0; v < Vectors; ++v) keys[v] = load(across + (v * dim + d) * kLanes);
    for (int i = 0; i < Rows; ++i)
      for (int v = 0; v < Vectors; ++v) total[i][v] += query[i * dim + d] * keys[v];
  }
  for (int i = 0; i < Rows; ++i)
    for (int v = 0; v < Vectors; ++v) store(scores + i * kStride + v * kLanes, total[i][v]);
}

template <int Rows, int Vectors>
void score_rows(const float* across, const float* query, int64_t count, int64_t dim,
                float* scores) {
  int64_t i = 0;
  for (; i + Rows <= count; i += Rows)
    score_tile<Rows, Vectors>(across, query + i * dim, dim, scores + i * kStride);
  if constexpr (Rows > 1)
    score_rows<Rows / 2, Vectors>(across, query + i * dim, count - i, dim, scores + i * kStride);
}

// Scores of many, for up to kScoreVectors times kLanes keys.
template <typename T>
void score_many(const T* keys, const int64_t* slots, int length, const float* query, int64_t count,
                int64_t dim, float* across, float* scores) {
  int vectors = 0;
  for (int k = 0; k < length; k += kLanes, ++vectors)
    lay_across(keys, slots + k, std::min(kLanes, length - k), dim, across + k * dim);
  if (vectors == kScoreVectors)
    score_rows<kScoreRows, kScoreVectors>(across, query, count, dim, scores);
  else
    score_rows<kScoreRows, 1>(across, query, count, dim, scores);
}

// out [Rows, Vectors * kLanes] += weights * values, kept in registers over all keys.
template <int Rows, int Vectors, typename Row>
void add_tile(const Row& value, int64_t length, const float* weights, int64_t dim, int64_t from,
              float* out) {
  Floats total[Rows][Vectors];
  for (int i = 0; i < Rows; ++i)
    for (int v = 0; v < Vectors; ++v) total[i][v] = load(out + i * dim + from + v * kLanes);
  for (int64_t k = 0; k < length; ++k) {
    const auto* row = value(k) + from;
    Floats some[Vectors];
    for (int v = 0; v < Vectors; ++v) some[v] = load(row + v * kLanes);
    for (int i = 0; i < Rows; ++i)
      for (int v = 0; v < Vectors; ++v) total[i][v] += weights[i * kStride + k] * some[v];
  }
  for (int i = 0; i < Rows; ++i)
    for (int v = 0; v < Vectors; ++v) store(out + i * dim + from + v * kLanes, total[i][v]);
}

template <int Rows, int Vectors, typename Row>
void add_rows(const Row& value, int64_t length, const float* weights, int64_t count, int64_t dim,
              int64_t from, float* out) {
  int64_t i = 0;
  for (; i + Rows <= count; i += Rows)
    add_tile<Rows, Vectors>(value, length, weights + i * kStride, dim, from, out + i * dim);
  if constexpr (Rows > 1)
    add_rows<Rows / 2, Vectors>(value, length, weights + i * kStride, count - i, dim, from,
                                out + i * dim);
}

template <typename Row>
void add_values(const Row& value, int64_t length, const float* weights, int64_t count, int64_t dim,
                float* out) {
  constexpr int kWide = kValueVectors * kLanes;
  int64_t from = 0;
  for (; from + kWide <= dim; from += kWide)
    add_rows<kValueRows, kValueVectors>(value, length, weights, count, dim, from, out);
  if constexpr (kValueVectors > 1)
    for (; from + kLanes <= dim; from += kLanes)
      add_rows<kValueRows, 1>(value, length, weights, count, dim, from, out);
  for (int64_t i = 0; from < dim && i < count; ++i)
    for (int64_t k = 0; k < length; ++k)
      for (int64_t d = from; d < dim; ++d)
        out[i * dim + d] += weights[i * kStride + k] * float(value(k)[d]);
}

// Scores become weights, relative to the largest so far; what was summed before is scaled to it.
inline void weigh(Queries& seen, int64_t first, int64_t count, int64_t keys, float softcap) {
  const int64_t wide = (keys + kLanes - 1) / kLanes * kLanes;
  for (int64_t i = first; i < first + count; ++i) {
    float* scores = &seen.scores[i * kStride];
    std::fill(scores + keys, scores + wide, kNever);
    Floats most = all(kNever);
    for (int64_t k = 0; k < wide; k += kLanes) {
      Floats x = load(scores + k);
      if (softcap > 0) {
        x = x == kNever ? x : softcap * tanh(x / softcap);
        store(scores + k, x);
      }
      most = larger(most, x);
    }
    const float top = std::max(seen.most[i], largest(most));
    if (top == kNever) {
      std::fill(scores, scores + wide, 0.0f);
      continue;
    }
    Floats total = {};
    for (int64_t k = 0; k < wide; k += kLanes) {
      const Floats weight = exp_negative(load(scores + k) - top);
      store(scores + k, weight);
      total += weight;
    }
    const float kept = exp_negative(seen.most[i] - top);
    seen.sum[i] = seen.sum[i] * kept + sum(total);
    seen.most[i] = top;
    if (kept != 1.0f)
      for (int64_t d = 0; d < seen.dim; ++d) seen.out[i * seen.dim + d] *= kept;
  }
}

}  // namespace ramet
