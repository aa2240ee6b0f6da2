# Who may include whom, as CONTRIBUTING.md maps it; nothing points up. Run as a test:
#
#     cmake -P cmake/check_layers.cmake
#
# SPDX-License-Identifier: Apache-2.0
cmake_minimum_required(VERSION 3.21)
cmake_path(SET root NORMALIZE ${CMAKE_CURRENT_LIST_DIR}/..)
set(violations 0)

# What FILE includes, without the brackets or quotes.
function(includes_of file result)
  file(STRINGS ${file} lines REGEX "^[ \t]*#[ \t]*include[ \t]*[<\"]")
  list(TRANSFORM lines REPLACE "^[ \t]*#[ \t]*include[ \t]*[<\"]([^>\"]*)[>\"].*" "\\1")
  set(${result} ${lines} PARENT_SCOPE)
endfunction()

function(violation file include rule)
  file(RELATIVE_PATH name ${root} ${file})
  message(SEND_ERROR "${name} includes ${include}: ${rule}")
endfunction()

# only(HEADER RULE REGEX): every include matches.
function(only header rule regex)
  includes_of(${root}/include/${header} includes)
  foreach(include IN LISTS includes)
    if(NOT include MATCHES "${regex}")
      violation(${root}/include/${header} ${include} "${rule}")
    endif()
  endforeach()
endfunction()

# never(FOLDER RULE REGEX): no file's include matches. A folder that is not there any more is an error, lest
# its rule pass for ever.
function(never folder rule regex)
  file(GLOB_RECURSE files ${root}/${folder}/*.[ch]pp ${root}/${folder}/*.h ${root}/${folder}/*.cu
       ${root}/${folder}/*.cuh)
  if(NOT files)
    message(SEND_ERROR "${folder} has no sources to check")
  endif()
  foreach(file IN LISTS files)
    includes_of(${file} includes)
    foreach(include IN LISTS includes)
      if(include MATCHES "${regex}")
        violation(${file} ${include} "${rule}")
      endif()
    endforeach()
  endforeach()
endfunction()

# A header of the standard library has no folder and no suffix.
set(standard "[a-z0-9_]+")
only(floatx.h "the C API needs stddef and stdint alone" "^(stddef|stdint)\\.h$")
only(floatx/format.hpp "the formats need nothing of ours" "^${standard}$")
only(floatx/codec.hpp "the codec needs the formats alone" "^(${standard}|floatx/format\\.hpp)$")
only(floatx/quantize.hpp "the quantizers need the codec alone" "^(${standard}|floatx/codec\\.hpp)$")
only(floatx/layout.hpp "the layout needs the formats alone" "^(${standard}|floatx/format\\.hpp)$")
only(floatx/floatx.hpp "the wrapper needs the C API alone" "^(${standard}|(\\.\\./)?floatx\\.h)$")
file(GLOB headers RELATIVE ${root}/include/floatx ${root}/include/floatx/*.hpp)
set(known codec.hpp floatx.hpp format.hpp layout.hpp quantize.hpp)
if(NOT headers STREQUAL known)
  message(SEND_ERROR "include/floatx/ holds ${headers}; the rules here are for ${known}")
endif()

never(include "an installed header needs no other package" "^(hwy|fmt|nlohmann|CLI|catch2|cuda)")
never(src/cli "the program uses the library through its API" "(^|/)(cpu|dispatch|instances|tuning)/|status\\.hpp$")
never(src/io "files know neither the program nor the kernels" "(^|/)(cli|cpu|dispatch)/")
never(src/cpu "the kernels know neither the program nor files" "(^|/)(cli|io)/")
never(src/cpu "the two backends do not know each other" "(^|/)(cuda|dispatch|instances|tuning)/|linear_")
never(src/cuda "the two backends do not know each other, nor the program" "(^|/)(cpu|cli|io)/")
never(src/dispatch "a choice is a pure function over plain numbers" "(^|/)(cpu|cuda|instances|cli|io)/|cuda|\\.cuh$")
never(src/tuning "a table needs nothing" ".")
never(src/instances "instances know the kernels alone" "(^|/)(cpu|cuda|tuning|cli|io)/|floatx\\.h$")
never(kernels "a kernel knows the formats and CUDA alone" "(^|/)(cpu|cuda|dispatch|instances|tuning|cli|io)/|floatx\\.h$")
never(kernels/ptx "an instruction is a function of nothing of ours" "floatx|^\\.\\.|dequant|epilogue|linear")
