/* A linear layer on 6-bit weights, compared with the same layer on the FP32 weights they were made of.
 * SPDX-License-Identifier: Apache-2.0 */
#include <floatx.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { m = 4, n = 256, k = 1024 };
static float w[n * k], x[m * k], y[m * n];

static void check(floatx_status status) {
  if (status == FLOATX_STATUS_OK) return;
  fprintf(stderr, "%s: %s\n", floatx_status_string(status), floatx_last_error());
  exit(2);
}

/* Aligned to 64 bytes, for which C99 has no function; lives until the program ends. */
static void* allocate(size_t bytes) {
  char* block = malloc(bytes + 63);
  if (block == NULL) exit(2);
  return block + (64 - (uintptr_t)block % 64) % 64;
}

/* Roughly normal: sums of four uniform numbers. */
static void fill(float* values, int count, uint32_t state) {
  for (int i = 0; i < 4 * count; ++i) {
    state = state * 1664525u + 1013904223u;
    values[i / 4] += (float)(state >> 8) / 16777216.0f - 0.5f;
  }
}

int main(void) {
  fill(w, n * k, 1);
  fill(x, m * k, 2);

  /* core */
  floatx_weight weight = {.struct_size = sizeof weight, .n = n, .k = k};
  weight.format = FLOATX_FORMAT_E3M2;
  weight.layout = FLOATX_LAYOUT_CPU;
  weight.scale_type = FLOATX_SCALE_F32; /* group_size is 0: one scale for each row */

  floatx_sizes sizes = {.struct_size = sizeof sizes};
  check(floatx_weight_sizes(&weight, &sizes));
  weight.codes = allocate(weight.codes_bytes = sizes.codes_bytes);
  weight.scales = allocate(weight.scales_bytes = sizes.scales_bytes);

  /* w[n,k] becomes codes and scales; then y[m,n] = x[m,k] . W[n,k]^T */
  check(floatx_pack(&weight, FLOATX_TYPE_F32, w, k, NULL, NULL));
  check(floatx_linear(&weight, m, FLOATX_TYPE_F32, x, k, NULL, FLOATX_TYPE_F32, y, n, NULL));
  /* end of core */

  double difference = 0, reference = 0;
  for (int i = 0; i < m * n; ++i) {
    float sum = 0;
    for (int j = 0; j < k; ++j) sum += x[i / n * k + j] * w[i % n * k + j];
    difference += pow((double)y[i] - (double)sum, 2);
    reference += pow((double)sum, 2);
  }
  const double error = sqrt(difference / reference);
  printf("%zu bytes instead of %zu, relative error %.4f\n", sizes.codes_bytes + sizes.scales_bytes, sizeof w,
         error);
  /* Two mantissa bits: steps of 1/4 of the power of two below a value, an error of (1/4)/sqrt(12) of it. */
  return error < 0.072 ? 0 : 1;
}
