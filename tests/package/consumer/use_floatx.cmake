# Brings floatx::floatx in the way that HOW says, as a stranger's project would.
if(HOW STREQUAL "find_package")
  find_package(floatx 0.1 REQUIRED)
elseif(HOW STREQUAL "add_subdirectory")
  # FetchContent's folder, so that what the tests compile in one way serves the other.
  add_subdirectory(${FLOATX_SOURCE} _deps/floatx-build)
elseif(HOW STREQUAL "FetchContent")
  include(FetchContent)
  FetchContent_Declare(floatx URL https://example.invalid/floatx.tar.gz)
  FetchContent_MakeAvailable(floatx)  # FETCHCONTENT_SOURCE_DIR_FLOATX says where it is
else()
  message(FATAL_ERROR "HOW is '${HOW}'")
endif()

# A part of another project adds the library and nothing else.
foreach(target IN ITEMS floatx_cli floatx_io floatx_test_main)
  if(TARGET ${target})
    message(FATAL_ERROR "${target} is built although floatx is not the top-level project")
  endif()
endforeach()
