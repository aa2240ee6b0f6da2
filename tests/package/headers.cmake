# Risks: a header that compiles only after another one, or only with this project's options; a format outside
# the supported range that compiles all the same.
include(${CMAKE_CURRENT_LIST_DIR}/common.cmake)
set(options -Wall -Wextra -Werror -pedantic -fsyntax-only -I${SOURCE}/include)
file(MAKE_DIRECTORY ${SCRATCH})

# Twice, so that a missing include guard shows.
file(WRITE ${SCRATCH}/api.c "#include <floatx.h>\n#include <floatx.h>\nint unused;\n")
run(${CC} -std=c99 ${options} ${SCRATCH}/api.c)
run(${CXX} -std=c++17 ${options} -x c++ ${SCRATCH}/api.c)

file(GLOB headers RELATIVE ${SOURCE}/include ${SOURCE}/include/floatx/*.hpp)
foreach(header IN LISTS headers)
  file(WRITE ${SCRATCH}/header.cpp "#include <${header}>\n#include <${header}>\n")
  run(${CXX} -std=c++17 ${options} ${SCRATCH}/header.cpp)
endforeach()

# The first must compile: else the others would be refused for another reason.
foreach(format IN ITEMS "3, 2" "9, 9" "1, 0" "0, 4" "4, 3" "3, 2, floatx::specials::fn")
  file(WRITE ${SCRATCH}/format.cpp "#include <floatx/format.hpp>\nint bits = floatx::format<${format}>::bits;\n")
  execute_process(COMMAND ${CXX} -std=c++17 ${options} ${SCRATCH}/format.cpp
                  RESULT_VARIABLE result ERROR_VARIABLE message)
  if(format STREQUAL "3, 2")
    if(NOT result EQUAL 0)
      message(FATAL_ERROR "format<${format}> does not compile:\n${message}")
    endif()
  elseif(result EQUAL 0)
    message(FATAL_ERROR "format<${format}> compiles")
  elseif(NOT message MATCHES "a format has|8-bit formats follow")
    message(FATAL_ERROR "format<${format}> is refused, but not by its static_assert:\n${message}")
  endif()
endforeach()
