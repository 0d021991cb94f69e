# flagscale_folder(NAME DEPS folder... LIBS library...)
#
# Makes the OBJECT library fs_NAME of src/NAME (sources found by glob: a new file needs no list) and the test
# program test_NAME of its *_test.cc. DEPS are the folders that tools/layers.toml lets it see. OBJECT libraries, because
# registration by static objects is silently dropped from archives.
#
# A file whose name ends in _avx2, _avx512 or _avx512bf16 is compiled for that instruction set, alone
# (never in a unity build): else the linker may keep its copy of a shared inline function for everyone.
set(FLAGSCALE_ISA_avx2 -mavx2 -mfma -mf16c)
set(FLAGSCALE_ISA_avx512 -march=x86-64-v4 -mprefer-vector-width=512)
set(FLAGSCALE_ISA_avx512bf16 -march=x86-64-v4 -mavx512bf16 -mavx512vnni -mprefer-vector-width=512)

function(flagscale_isa_flags)
  foreach(source ${ARGN})
    if(source MATCHES "_(avx2|avx512|avx512bf16)\\.cc$")
      set_source_files_properties(${source} PROPERTIES
        COMPILE_OPTIONS "${FLAGSCALE_ISA_${CMAKE_MATCH_1}};-O3" SKIP_UNITY_BUILD_INCLUSION ON)
    elseif(source MATCHES "_scalar\\.cc$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "-O3" SKIP_UNITY_BUILD_INCLUSION ON)
    endif()
  endforeach()
endfunction()

# The folders that NAME needs, itself included, each once.
function(flagscale_closure out)
  set(result)
  foreach(name ${ARGN})
    get_property(deps GLOBAL PROPERTY FLAGSCALE_DEPS_${name})
    list(APPEND result ${name})
    if(deps)
      flagscale_closure(below ${deps})
      list(APPEND result ${below})
    endif()
  endforeach()
  list(REMOVE_DUPLICATES result)
  set(${out} ${result} PARENT_SCOPE)
endfunction()

# Links a program with folders: their objects and everything below them.
function(flagscale_link target)
  flagscale_closure(folders ${ARGN})
  list(TRANSFORM folders PREPEND fs_)
  target_link_libraries(${target} PRIVATE ${folders})
endfunction()

function(flagscale_folder name)
  cmake_parse_arguments(ARG "" "" "DEPS;LIBS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${name}/*.cc)
  set(tests ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  list(FILTER sources EXCLUDE REGEX "_(test|main)\\.cc$")
  set_property(GLOBAL PROPERTY FLAGSCALE_DEPS_${name} ${ARG_DEPS})

  if(NOT sources)
    add_library(fs_${name} INTERFACE)
    target_link_libraries(fs_${name} INTERFACE flagscale_settings ${ARG_LIBS})
  else()
    add_library(fs_${name} OBJECT ${sources})
    flagscale_isa_flags(${sources})
    target_link_libraries(fs_${name} PUBLIC flagscale_settings ${ARG_LIBS})
  endif()
  if(tests AND FLAGSCALE_TESTS)
    add_executable(test_${name} ${tests})
    flagscale_link(test_${name} ${name})
    target_link_libraries(test_${name} PRIVATE GTest::gtest_main GTest::gtest)
    target_compile_definitions(test_${name} PRIVATE FLAGSCALE_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
    add_test(NAME ${name} COMMAND test_${name})
    set_tests_properties(${name} PROPERTIES LABELS cpu SKIP_REGULAR_EXPRESSION "")
  endif()
endfunction()
