# What the scripts here share.
cmake_minimum_required(VERSION 3.21)
unset(ENV{DESTDIR})
cmake_host_system_information(RESULT PROCESSORS QUERY NUMBER_OF_LOGICAL_CORES)

# run(command...): its output appears only when it fails.
function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    list(JOIN ARGV " " command)
    message(FATAL_ERROR "${command}\nended with ${result}:\n${output}")
  endif()
endfunction()

# configure(source folder option...): without the kernels for GPUs, which would take minutes more.
function(configure source folder)
  run(${CMAKE_COMMAND} -S ${source} -B ${folder} -G ${GENERATOR} -DFLOATX_CUDA=OFF -DCMAKE_C_COMPILER=${CC}
      -DCMAKE_CXX_COMPILER=${CXX} -DCMAKE_BUILD_TYPE=Release -DCMAKE_CONFIGURATION_TYPES=Release
      -DFLOATX_HIGHWAY_INCLUDE=${FLOATX_HIGHWAY_INCLUDE} ${ARGN})
endfunction()

# run_consumer(build folder shared program...): builds a consumer and runs its programs, which must have the
# library linked as they should.
function(run_consumer folder shared)
  run(${CMAKE_COMMAND} --build ${folder} --config Release --parallel ${PROCESSORS})
  foreach(name IN LISTS ARGN)
    file(GLOB_RECURSE program ${folder}/${name})
    if(NOT program)
      message(FATAL_ERROR "${folder}: no ${name} was built")
    endif()
    run(${program})
    execute_process(COMMAND ${NM} -D --undefined-only ${program} OUTPUT_VARIABLE symbols
                    COMMAND_ERROR_IS_FATAL ANY)
    string(FIND "${symbols}" " floatx_linear" imported)
    if(shared AND name MATCHES "^app" AND imported EQUAL -1)
      message(FATAL_ERROR "${program} is not linked to the shared library")
    elseif(NOT shared AND NOT imported EQUAL -1)
      message(FATAL_ERROR "${program} is linked to a shared library")
    endif()
  endforeach()
endfunction()
