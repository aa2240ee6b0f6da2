# What the scripts here share.
cmake_minimum_required(VERSION 3.21)
unset(ENV{DESTDIR})

# run(command...): its output appears only when it fails.
function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    list(JOIN ARGV " " command)
    message(FATAL_ERROR "${command}\nended with ${result}:\n${output}")
  endif()
endfunction()

# configure(source folder option...)
function(configure source folder)
  run(${CMAKE_COMMAND} -S ${source} -B ${folder} -G ${GENERATOR} -DCMAKE_C_COMPILER=${CC}
      -DCMAKE_CXX_COMPILER=${CXX} -DCMAKE_BUILD_TYPE=Release -DCMAKE_CONFIGURATION_TYPES=Release
      -DFLOATX_HIGHWAY_INCLUDE=${FLOATX_HIGHWAY_INCLUDE} ${ARGN})
endfunction()
