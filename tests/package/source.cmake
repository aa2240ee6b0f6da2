# Risk: as a part of another project floatx brings its tests and tools along, or its target is missing. The
# compiled library is the one that the other tests have, so here it is enough to configure.
include(${CMAKE_CURRENT_LIST_DIR}/common.cmake)
file(REMOVE_RECURSE ${SCRATCH})
foreach(language IN ITEMS c cpp)
  configure(${CMAKE_CURRENT_LIST_DIR}/${language} ${SCRATCH}/sub_${language} -DHOW=add_subdirectory
            -DFLOATX_SOURCE=${SOURCE})
  configure(${CMAKE_CURRENT_LIST_DIR}/${language} ${SCRATCH}/fetch_${language} -DHOW=FetchContent
            -DFETCHCONTENT_SOURCE_DIR_FLOATX=${SOURCE})
endforeach()
run(${CMAKE_COMMAND} --build ${SCRATCH}/sub_cpp --config Release --target headers_only)
