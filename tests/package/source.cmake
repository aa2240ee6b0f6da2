# Risks: as a part of another project floatx brings its tests and tools along, or its target is missing or
# does not link.
#
# Neither the way in nor the linkage changes how a source file is compiled, so that one folder, configured
# anew for each pair of them, compiles the library once. It is left with the linkage that this build does not
# have, and with the install rules, for installed.cmake.
include(${CMAKE_CURRENT_LIST_DIR}/common.cmake)
file(REMOVE_RECURSE ${SCRATCH})
find_program(ccache ccache)
set(launcher "")
if(ccache)
  set(launcher -DCMAKE_CXX_COMPILER_LAUNCHER=${ccache})
endif()
if(SHARED)
  set(other_linkage OFF)
else()
  set(other_linkage ON)
endif()

set(install "")
foreach(shared IN ITEMS ${SHARED} ${other_linkage})
  foreach(how IN ITEMS add_subdirectory FetchContent)
    configure(${CMAKE_CURRENT_LIST_DIR}/consumer ${SCRATCH}/build -DHOW=${how} -DFLOATX_SOURCE=${SOURCE}
              -DFETCHCONTENT_SOURCE_DIR_FLOATX=${SOURCE} -DBUILD_SHARED_LIBS=${shared}
              -DCMAKE_INSTALL_LIBDIR=${LIBDIR} ${launcher} ${install})
    run_consumer(${SCRATCH}/build ${shared} app_c app_cpp headers_only)
  endforeach()
  set(install -DFLOATX_INSTALL=ON)
endforeach()
