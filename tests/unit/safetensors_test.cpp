// The safetensors reader and writer, from memory and in files.
//
// SPDX-License-Identifier: Apache-2.0
#include "io/safetensors.hpp"

#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "io/error.hpp"
#include "io/model.hpp"
#include "io/output_file.hpp"
#include "support/catch.hpp"

namespace {

namespace fs = std::filesystem;
namespace io = floatx::io;

std::string with_length(const std::string& header, uint64_t length, const std::string& data) {
  std::string file;
  for (int i = 0; i < 8; ++i, length >>= 8) {
    file += static_cast<char>(length & 0xff);
  }
  return file + header + data;
}

std::string file_of(const std::string& header, size_t data_bytes) {
  return with_length(header, header.size(), std::string(data_bytes, 'd'));
}

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

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

class temporary_folder {
 public:
  temporary_folder() {
    std::string name = (fs::temp_directory_path() / "floatx-unit-XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~temporary_folder() { fs::remove_all(path_); }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  std::string path() const { return path_.string(); }
  size_t entries() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(path_), fs::directory_iterator()));
  }

 private:
  fs::path path_;
};

void write_file(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

const std::string tensor_a = R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";

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

TEST_CASE("safetensors: what is written is what is read, aligned and without gaps") {
  // Risk: a tensor lands at another one's place, or where mapped memory is not aligned for its element.
  const temporary_folder folder;
  const std::string path = folder / "out.safetensors";
  const io::metadata_map metadata = {{"quote", "\"\n"}, {"z", ""}};
  {
    io::safetensors_writer writer(path,
                                  {{"odd", io::dtype::u8, {3}},
                                   {"f64", io::dtype::f64, {1}},
                                   {"name \"\n", io::dtype::f32, {2, 1}},
                                   {"none", io::dtype::f16, {0, 7}},
                                   {"half", io::dtype::bf16, {1}}},
                                  metadata);
    const std::string content = "0123456789abcdef";
    for (size_t i = 0; i < writer.tensors().size(); ++i) {
      // Backwards and in pieces: the order of writing must not matter.
      for (uint64_t offset = writer.tensors()[i].bytes(); offset-- > 0;) {
        writer.write(i, offset, content.data() + offset, 1);
      }
    }
    CHECK(writer.find("half") < writer.tensors().size());
    CHECK_THROWS_AS(writer.find("absent"), std::out_of_range);
    CHECK_THROWS_AS(writer.write(writer.find("odd"), 2, content.data(), 2), std::out_of_range);
    CHECK_THROWS_AS(writer.write(writer.find("odd"), 4, content.data(), 0), std::out_of_range);
    writer.file().sync();
    writer.file().commit();
    CHECK(fs::file_size(path) == writer.file_bytes());
  }
  const io::model model({path});
  const io::shard& shard = model.shards()[0];
  CHECK(shard.header.metadata == metadata);
  CHECK(shard.header.data_begin % 8 == 0);
  REQUIRE(shard.header.tensors.size() == 5);
  for (const io::tensor_info& tensor : shard.header.tensors) {
    INFO(tensor.name);
    CHECK((shard.header.data_begin + tensor.begin) % std::max(1u, io::bits(tensor.dtype) / 8) == 0);
    CHECK(std::memcmp(shard.data(tensor), "0123456789abcdef", tensor.bytes()) == 0);
  }
  CHECK(model.info(*model.find("name \"\n")).shape == std::vector<uint64_t>{2, 1});
  CHECK(folder.entries() == 1);
}

TEST_CASE("safetensors: a header that could not be read back is not written") {
  // Risk: two tensors under one name, or sizes that wrap, make a file that loses data.
  const temporary_folder folder;
  const auto message_of = [&](std::vector<io::tensor_info> tensors) -> std::string {
    try {
      const io::safetensors_writer writer(folder / "x.safetensors", std::move(tensors), {});
    } catch (const io::error& error) {
      return error.what();
    }
    return "written";
  };
  CHECK(contains(message_of({{"a", io::dtype::u8, {1}}, {"a", io::dtype::f32, {1}}}),
                 "two tensors would be named 'a'"));
  const uint64_t half = uint64_t{1} << 60;
  CHECK(contains(
      message_of(
          {{"a", io::dtype::u8, {half}}, {"b", io::dtype::u8, {half}}, {"c", io::dtype::u8, {half, 64}}}),
      "overflows 64 bits"));
  CHECK(folder.entries() == 0);
}

TEST_CASE("output files: nothing is seen until all is there") {
  // Risk: an error half way leaves a broken file, or has destroyed the one that was there.
  const temporary_folder folder;
  const std::string path = folder / "f";
  write_file(path, "old");
  {
    io::output_file file(path);
    file.write(0, "new content", 11);
    CHECK(read_file(path) == "old");
    CHECK(folder.entries() == 2);
  }
  CHECK(read_file(path) == "old");
  CHECK(folder.entries() == 1);
  {
    io::output_file file(path);
    file.write(4, "content", 7);
    file.write(0, "new ", 4);
    file.sync();
    file.commit();
  }
  CHECK(read_file(path) == "new content");
  CHECK(folder.entries() == 1);

  // The rights are those of any new file, not those of a secret one.
  const mode_t mask = umask(0);
  umask(mask);
  struct stat status = {};
  REQUIRE(stat(path.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == (0666 & ~mask));

  CHECK_THROWS_AS(io::output_file(folder / "no/such/folder"), io::error);
  CHECK_THROWS_AS(io::output_file("/dev/full"), io::error);
  CHECK_THROWS_AS(io::output_file(folder.path()), io::error);
}

TEST_CASE("output files: a write that fails half way is an error, and leaves nothing") {
  // Risk: the space runs out after it was promised, and nobody looks.
  const temporary_folder folder;
  write_file(folder / "f", "old");
  const auto old_action = std::signal(SIGXFSZ, SIG_IGN);
  rlimit old_limit = {};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &old_limit) == 0);
  const std::string data(3000, 'x');
  std::string message;
  {
    io::output_file file(folder / "f");
    const rlimit small = {2000, old_limit.rlim_max};
    REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
    try {
      file.write(0, data.data(), data.size());
    } catch (const io::error& error) {
      message = error.what();
    }
    CHECK_THROWS_AS(file.reserve(3000), io::error);
    REQUIRE(setrlimit(RLIMIT_FSIZE, &old_limit) == 0);
  }
  std::signal(SIGXFSZ, old_action);
  CHECK(contains(message, "cannot write: File too large"));
  CHECK(read_file(folder / "f") == "old");
  CHECK(folder.entries() == 1);
}

TEST_CASE("models: shards and indices must fit together") {
  // Risk: a tensor is taken from the wrong file, or one that the index promises is missing from the result.
  const temporary_folder folder;
  const std::string tensor_b = R"("b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  const std::string a = folder / "a.safetensors";
  const std::string b = folder / "b.safetensors";
  const std::string index = folder / io::index_file_name;
  write_file(a, file_of("{" + tensor_a + "}", 8));
  write_file(b, file_of("{" + tensor_b + "}", 8));
  const auto message_of = [](const std::vector<std::string>& paths) -> std::string {
    try {
      const io::model model(paths);
    } catch (const io::error& error) {
      return error.what();
    }
    return "accepted";
  };
  const auto indexed = [&](const std::string& text) {
    write_file(index, text);
    return message_of({folder.path()});
  };

  CHECK(message_of({a, b}) == "accepted");
  CHECK(contains(message_of({folder.path()}), "holds neither"));
  CHECK(contains(message_of({a, a}), "given twice"));
  write_file(folder / "c.safetensors", file_of("{" + tensor_a + "}", 8));
  CHECK(contains(message_of({a, folder / "c.safetensors"}), "tensor 'a' is also in"));
  CHECK(contains(message_of({folder / "absent"}), "cannot open"));
  CHECK(contains(message_of({a, folder.path()}), "not a regular file"));

  CHECK(indexed(R"({"metadata":{"x":1},"weight_map":{"a":"a.safetensors","b":"b.safetensors"}})") ==
        "accepted");
  const io::model model({folder.path()});
  CHECK(model.shards().size() == 2);
  CHECK(*model.index_metadata() == R"({"x":1})");

  CHECK(contains(indexed("nonsense"), "not valid JSON"));
  CHECK(contains(indexed("[]"), "weight_map"));
  CHECK(contains(indexed("{}"), "weight_map"));
  CHECK(contains(indexed(R"({"weight_map":[]})"), "weight_map"));
  CHECK(contains(indexed(R"({"weight_map":{"a":1}})"), "must lie in a file of the same folder"));
  CHECK(contains(indexed(R"({"weight_map":{"a":"../a.safetensors"}})"),
                 "must lie in a file of the same folder"));
  CHECK(contains(indexed(R"({"weight_map":{"a":"/etc/passwd"}})"), "must lie in a file of the same folder"));
  CHECK(
      contains(indexed(R"({"weight_map":{"a":"a.safetensors","a":"b.safetensors"}})"), "'a' appears twice"));
  CHECK(contains(indexed(R"({"weight_map":{"a":"gone.safetensors"}})"), "gone.safetensors: cannot open"));
  CHECK(contains(indexed(R"({"weight_map":{"a":"b.safetensors"}})"), "tensor 'a' is not in 'b.safetensors'"));
}
