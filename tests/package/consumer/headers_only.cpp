#include <floatx/codec.hpp>
#include <floatx/format.hpp>
#include <floatx/layout.hpp>
#include <floatx/quantize.hpp>

using e3m2 = floatx::format<3, 2>;
static_assert(e3m2::max == 28);

int main(int argc, char**) {
  const auto value = static_cast<float>(27 + argc);  // 28, though not to the compiler
  return floatx::decode<e3m2>(floatx::encode<e3m2>(value)) == value ? 0 : 1;
}
