/* y = 28 * 2 + 4 * 0.5 through e3m2, which holds 28 and 4 exactly at the scale 1. */
#include <floatx.h>
#include <stdio.h>

/* Aligned to 64 bytes within a block that is large enough for this weight. */
static unsigned char memory[1 << 20];
static void* allocate(size_t bytes) {
  static size_t used = 0;
  unsigned char* const begin = memory + used;
  unsigned char* const aligned = begin + (64 - (uintptr_t)begin % 64) % 64;
  used = (size_t)(aligned - memory) + bytes;
  return used <= sizeof memory ? aligned : NULL;
}

int main(void) {
  static const float w[2] = {28, 4}, x[2] = {2, 0.5f};
  float y = 0;
  floatx_sizes sizes = {.struct_size = sizeof sizes};
  floatx_weight weight = {.struct_size = sizeof weight, .n = 1, .k = 2};
  weight.format = FLOATX_FORMAT_E3M2;
  weight.layout = FLOATX_LAYOUT_CPU;
  weight.scale_type = FLOATX_SCALE_F32;
  if (floatx_version() != FLOATX_VERSION) return 2;
  if (floatx_weight_sizes(&weight, &sizes) != FLOATX_STATUS_OK) return 3;
  weight.codes = allocate(weight.codes_bytes = sizes.codes_bytes);
  weight.scales = allocate(weight.scales_bytes = sizes.scales_bytes);
  if (floatx_pack(&weight, FLOATX_TYPE_F32, w, 2, NULL, NULL) != FLOATX_STATUS_OK) return 4;
  if (floatx_linear(&weight, 1, FLOATX_TYPE_F32, x, 2, NULL, FLOATX_TYPE_F32, &y, 1, NULL) !=
      FLOATX_STATUS_OK) {
    return 5;
  }
  printf("floatx %s: %g\n", floatx_version_string(), (double)y);
  return y == 58 ? 0 : 1;
}
