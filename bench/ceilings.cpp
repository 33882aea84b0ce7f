// What all cores do at most, as JSON: operations a second in products whose factors stay in registers,
// and bytes a second that are read from memory. null where the processor has no such product.
// For processors with AVX2 or AVX-512.
//
//     c++ -O3 -march=native -pthread ceilings.cpp -o ceilings && ./ceilings THREADS

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#ifdef __AVX2__
#include <immintrin.h>
#endif

#ifdef __AVX512F__
constexpr int kBytes = 64, kSums = 24;
#else
constexpr int kBytes = 32, kSums = 12;
#endif

constexpr long kRounds = 4'000'000;
constexpr long kRead = 128 << 20;  // bytes a thread, more than any cache

typedef float Floats __attribute__((vector_size(kBytes)));
typedef int Ints __attribute__((vector_size(kBytes)));

template <typename Vector>
void keep(Vector& x) {
  asm volatile("" : "+v"(x));
}

// Each sum waits for its own last product alone.
template <typename Vector, typename Add>
void products(Vector factor, Add add) {
  Vector sums[kSums] = {};
  keep(factor);
  for (Vector& sum : sums) keep(sum);  // the compiler cannot know that they are equal
  for (long i = 0; i < kRounds; ++i)
#pragma GCC unroll 24
    for (int at = 0; at < kSums; ++at) sums[at] = add(sums[at], factor);
  for (Vector& sum : sums) keep(sum);
}

template <typename Work>
double seconds(int threads, const Work& work) {
  double best = 1e9;
  for (int turn = 0; turn < 7; ++turn) {
    const auto begin = std::chrono::steady_clock::now();
    std::vector<std::thread> all;
    for (int i = 0; i < threads; ++i) all.emplace_back(work, i);
    for (auto& each : all) each.join();
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;
    if (spent.count() < best) best = spent.count();
  }
  return best;
}

int main(int, char** arguments) {
  const int threads = std::atoi(arguments[1]);
  const double issued = double(threads) * kRounds * kSums;  // products of vectors
  const auto tell = [&](const char* name, int pairs, auto vector, auto add) {
    const double spent = seconds(threads, [&](int) { products(vector, add); });
    std::printf("\"%s\": %.4g, ", name, 2 * pairs * issued / spent);
  };
  std::printf("{");
  tell("float32", kBytes / 4, Floats{} + 0.5f, [](Floats sum, Floats x) { return sum * x + x; });
#ifdef __AVX512BF16__
  tell("bfloat16", kBytes / 2, Floats{}, [](Floats sum, Floats x) {
    return (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)x, (__m512bh)x);
  });
#else
  std::printf("\"bfloat16\": null, ");
#endif
#ifdef __AVX512VNNI__
  tell("int8", kBytes, Ints{} + 0x01010101, [](Ints sum, Ints x) {
    return (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)x, (__m512i)x);
  });
#elif defined __AVXVNNI__
  tell("int8", kBytes, Ints{} + 0x01010101, [](Ints sum, Ints x) {
    return (Ints)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)x, (__m256i)x);
  });
#else
  std::printf("\"int8\": null, ");
#endif
  std::vector<char> memory(kRead * threads, 1);
  const double spent = seconds(threads, [&](int thread) {
    Ints sums[4] = {};
    const char* from = memory.data() + kRead * thread;
    for (long at = 0; at < kRead; at += sizeof sums) {
      Ints some[4];
      std::memcpy(some, from + at, sizeof some);
      for (int i = 0; i < 4; ++i) sums[i] += some[i];
    }
    for (Ints& sum : sums) keep(sum);
  });
  std::printf("\"read\": %.4g}\n", double(kRead) * threads / spent);
}
