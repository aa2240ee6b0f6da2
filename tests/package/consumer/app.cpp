// y = 28 * 2 + 4 * 0.5 through e3m2, which holds 28 and 4 exactly at the scale 1; an error is an exception.
#include <floatx/floatx.hpp>

int main() {
  const float w[] = {28, 4};
  const float x[] = {2, 0.5f};
  float y = 0;
  floatx::weight::pack({FLOATX_FORMAT_E3M2, 1, 2}, w).linear(1, x, &y);
  if (y != 58) return 1;
  try {
    floatx::weight::pack({FLOATX_FORMAT_E3M2, -1, 2}, w);
  } catch (const std::exception&) {
    return 0;
  }
  return 2;
}
