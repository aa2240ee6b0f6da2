// The safetensors reader, from memory.
//
// SPDX-License-Identifier: Apache-2.0
#include "io/safetensors.hpp"

#include <string>

#include "io/error.hpp"
#include "support/catch.hpp"
#include "unit/safetensors_text.hpp"

using namespace floatx::test;

namespace {

namespace io = floatx::io;

io::safetensors_header parse(const std::string& file) {
  return io::parse_safetensors(reinterpret_cast<const uint8_t*>(file.data()), file.size(), "F");
}

std::string error_of(const std::string& file) {
  try {
    parse(file);
  } catch (const io::error& error) {
    return error.what();
  }
  return "accepted";
}

}  // namespace

TEST_CASE("safetensors: what the format allows is read") {
  // Risk: a legal file that other programs write is refused.
  SECTION("no tensors") { CHECK(parse(file_of("{}", 0)).tensors.empty()); }
  SECTION("padding after the object, metadata, order of the text unlike that of the data") {
    const io::safetensors_header header = parse(file_of(
        R"({"b":{"data_offsets":[8,10],"shape":[1],"dtype":"BF16"},"__metadata__":{"k":"v","":"e"},)" +
            tensor_a + "}   ",
        10));
    REQUIRE(header.tensors.size() == 2);
    CHECK(header.tensors[0].name == "a");
    CHECK(header.tensors[0].bytes() == 8);
    CHECK(header.tensors[1].name == "b");
    CHECK(header.tensors[1].dtype == io::dtype::bf16);
    CHECK(header.metadata == io::metadata_map{{"", "e"}, {"k", "v"}});
  }
  SECTION("scalars and tensors without elements, anywhere between the others") {
    const io::safetensors_header header = parse(
        file_of(R"({"z":{"dtype":"F32","shape":[0,3],"data_offsets":[8,8]},"s":{"dtype":"I64","shape":[],)"
                R"("data_offsets":[8,16]},"e":{"dtype":"U8","shape":[0],"data_offsets":[16,16]},)" +
                    tensor_a + "}",
                16));
    REQUIRE(header.tensors.size() == 4);
    CHECK(header.tensors[1].name == "z");
    CHECK(header.tensors[2].shape.empty());
  }
  SECTION("every dtype, with its size") {
    const struct {
      const char* name;
      size_t bits;
    } dtypes[] = {{"BOOL", 8},        {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
                  {"I8", 8},          {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E5M2FNUZ", 8},
                  {"F8_E4M3FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
                  {"I32", 32},        {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64},
                  {"I64", 64},        {"U64", 64}};
    for (const auto& dtype : dtypes) {
      INFO(dtype.name);
      const size_t bytes = dtype.bits * 4 / 8;
      const std::string header = R"({"t":{"dtype":")" + std::string(dtype.name) +
                                 R"(","shape":[4],"data_offsets":[0,)" + std::to_string(bytes) + "]}}";
      const io::safetensors_header read = parse(file_of(header, bytes));
      CHECK(io::name(read.tensors[0].dtype) == dtype.name);
    }
  }
  SECTION("names that JSON escapes") {
    const io::safetensors_header header =
        parse(file_of("{\"\\u00e9\\n\\\"\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0));
    CHECK(header.tensors[0].name == "\xc3\xa9\n\"");
  }
}

TEST_CASE("safetensors: every broken file is refused, and the message says why") {
  // Risk: a damaged or hostile file is read past its end, or loses tensors without a word.
  const auto one = [](const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return R"({"a":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
  };
  const struct {
    const char* what;
    std::string file;
    const char* message;
  } cases[] = {
      {"empty file", "", "0 bytes"},
      {"cut in the length", std::string(7, '\x01'), "7 bytes"},
      {"header longer than the file", with_length("{}", 3, ""), "header length 3 is more than the 2 bytes"},
      {"absurd length", with_length("{}", ~uint64_t{0}, ""), "above the limit of 100000000"},
      {"just above the limit", with_length("{}", 100000001, ""), "above the limit"},
      {"no header", with_length("", 0, ""), "does not begin with '{'"},
      {"not an object", file_of("[]", 0), "does not begin with '{'"},
      {"a space first", file_of(" {}", 0), "does not begin with '{'"},
      {"a byte order mark first", file_of("\xef\xbb\xbf{}", 0), "does not begin with '{'"},
      {"JSON cut short", file_of(R"({"a":{"dtype":"F32")", 0), "not valid JSON"},
      {"JSON with a comma too many", file_of("{" + tensor_a + ",}", 8), "not valid JSON"},
      {"text after the object", file_of("{}x", 0), "not valid JSON"},
      {"zero bytes after the object", file_of(std::string("{}\0\0", 4), 0), "not valid JSON"},
      {"a second object after a zero byte", file_of(std::string("{}\0{}", 5), 0), "not valid JSON"},
      {"a zero byte in a name", file_of(std::string("{\"\0\":{}}", 8), 0), "not valid JSON"},
      {"invalid UTF-8", file_of("{\"\xff\":{}}", 0), "not valid JSON"},
      {"a name twice", file_of("{" + tensor_a + "," + tensor_a + "}", 8), "'a' appears twice"},
      {"metadata twice", file_of(R"({"__metadata__":{},"__metadata__":{}})", 0),
       "'__metadata__' appears twice"},
      {"a metadata key twice", file_of(R"({"__metadata__":{"k":"1","k":"2"}})", 0), "'k' appears twice"},
      {"a key of a tensor twice",
       file_of(R"({"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8),
       "'dtype' appears twice"},
      {"metadata that are no text", file_of(R"({"__metadata__":{"k":1}})", 0),
       "the number 1 where a string belongs"},
      {"nested metadata", file_of(R"({"__metadata__":{"k":{}}})", 0), "an object where a string belongs"},
      {"metadata null", file_of(R"({"__metadata__":null})", 0), "null where an object belongs"},
      {"a tensor that is a number", file_of(R"({"a":1})", 0), "where an object belongs"},
      {"a tensor that is an array", file_of(R"({"a":[]})", 0), "an array where an object belongs"},
      {"an unknown key", file_of(R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"strides":[1]}})", 0),
       "unknown key 'strides'"},
      {"dtype missing", file_of(R"({"a":{"shape":[2],"data_offsets":[0,8]}})", 8), "dtype is missing"},
      {"shape missing", file_of(R"({"a":{"dtype":"F32","data_offsets":[0,8]}})", 8), "shape is missing"},
      {"offsets missing", file_of(R"({"a":{"dtype":"F32","shape":[2]}})", 8), "data_offsets is missing"},
      {"unknown dtype", file_of(one("\"F31\"", "[2]", "[0,8]"), 8), "unknown dtype 'F31'"},
      {"dtype in small letters", file_of(one("\"f32\"", "[2]", "[0,8]"), 8), "unknown dtype 'f32'"},
      {"dtype a number", file_of(one("32", "[2]", "[0,8]"), 8),
       "the number 32 where the name of a dtype belongs"},
      {"shape a number", file_of(one("\"F32\"", "2", "[0,8]"), 8), "where an array belongs"},
      {"shape nested", file_of(one("\"F32\"", "[[2]]", "[0,8]"), 8), "an array where an integer"},
      {"negative shape", file_of(one("\"F32\"", "[-2]", "[0,8]"), 8), "the negative number -2"},
      {"fractional shape", file_of(one("\"F32\"", "[2.0]", "[0,8]"), 8), "'2.0', which is not an integer"},
      {"exponent in a shape", file_of(one("\"F32\"", "[2e0]", "[0,8]"), 8), "'2e0', which is not an integer"},
      {"shape above 64 bits", file_of(one("\"F32\"", "[18446744073709551616]", "[0,8]"), 8),
       "is not an integer"},
      {"shape a string", file_of(one("\"F32\"", "[\"2\"]", "[0,8]"), 8), "the string '2'"},
      {"shape true", file_of(one("\"F32\"", "[true]", "[0,8]"), 8), "true where an integer"},
      {"shape that overflows", file_of(one("\"F32\"", "[4294967296,4294967296]", "[0,8]"), 8),
       "overflows 64 bits"},
      // 2^62 elements of 32 bits: the product wraps to the 0 bytes that the offsets claim.
      {"shape that wraps to a match", file_of(one("\"F32\"", "[4611686018427387904,4]", "[0,0]"), 0),
       "overflows 64 bits"},
      {"half a byte", file_of(one("\"F4\"", "[3]", "[0,1]"), 1), "not a whole number of bytes"},
      {"one offset", file_of(one("\"F32\"", "[2]", "[0]"), 8), "holds 1 numbers, not 2"},
      {"no offsets", file_of(one("\"F32\"", "[2]", "[]"), 8), "holds 0 numbers, not 2"},
      {"three offsets", file_of(one("\"F32\"", "[2]", "[0,8,16]"), 8), "a third number"},
      {"negative offset", file_of(one("\"F32\"", "[2]", "[-8,0]"), 8), "the negative number -8"},
      {"offsets in the wrong order", file_of(one("\"F32\"", "[2]", "[8,0]"), 8),
       "[8, 0] do not lie in order"},
      {"offsets past the data", file_of(one("\"F32\"", "[2]", "[0,8]"), 7), "within the 7 bytes"},
      {"offsets far past the data", file_of(one("\"F32\"", "[2]", "[0,18446744073709551615]"), 8),
       "within the 8 bytes"},
      {"size unlike the shape", file_of(one("\"F32\"", "[2]", "[0,4]"), 4),
       "span 4 bytes, but F32 [2] takes 8"},
      {"overlap", file_of("{" + tensor_a + R"(,"b":{"dtype":"U8","shape":[8],"data_offsets":[4,12]}})", 12),
       "tensors must not overlap"},
      {"the same bytes twice",
       file_of("{" + tensor_a + R"(,"b":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}})", 8),
       "tensors must not overlap"},
      {"an empty tensor inside another",
       file_of("{" + tensor_a + R"(,"b":{"dtype":"U8","shape":[0],"data_offsets":[4,4]}})", 8),
       "must not overlap"},
      {"a gap at the front", file_of(one("\"F32\"", "[2]", "[1,9]"), 9), "gaps are not allowed"},
      {"a gap between",
       file_of("{" + tensor_a + R"(,"b":{"dtype":"U8","shape":[1],"data_offsets":[9,10]}})", 10),
       "gaps are not allowed"},
      {"bytes after the last tensor", file_of("{" + tensor_a + "}", 9), "cover 8 of 9 bytes"},
      {"data without tensors", file_of("{}", 1), "cover 0 of 1 bytes"},
  };
  for (const auto& c : cases) {
    INFO(c.what);
    const std::string message = error_of(c.file);
    INFO(message);
    CHECK(contains(message, c.message));
    CHECK(contains(message, "F: "));
    CHECK(!contains(message, "\n"));
  }
}

TEST_CASE("safetensors: every prefix of a good file is refused") {
  // Risk: a download that broke off looks complete.
  const std::string file = file_of("{" + tensor_a + "}", 8);
  REQUIRE(parse(file).tensors.size() == 1);
  for (size_t length = 0; length < file.size(); ++length) {
    INFO(length);
    CHECK(error_of(file.substr(0, length)) != "accepted");
  }
}

TEST_CASE("safetensors: control characters of a file do not reach the terminal") {
  // Risk: a tensor's name moves the cursor, or forges a line of output.
  CHECK(io::show("a\x1b[2J\n\x7f'\\") == "'a\\x1b[2J\\x0a\\x7f\\'\\\\'");
  CHECK(io::show("\xc2\x9b") == "'\\xc2\x9b'");
  CHECK(io::show("\xc3\xa9") == "'\xc3\xa9'");
  CHECK(io::show(std::string(5000, 'x')).size() < 250);
}
