# Compiler settings shared by every target.
find_program(FLAGSCALE_CCACHE ccache)
if(FLAGSCALE_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${FLAGSCALE_CCACHE})
endif()

find_program(FLAGSCALE_MOLD mold)
if(FLAGSCALE_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

add_library(flagscale_settings INTERFACE)
target_include_directories(flagscale_settings INTERFACE ${CMAKE_SOURCE_DIR}/src)
target_compile_options(flagscale_settings INTERFACE
  -Wall -Wextra -Wconversion -Wno-sign-conversion -Wshadow -Wnon-virtual-dtor -fno-math-errno -ffp-contract=off)
if(FLAGSCALE_WERROR)
  target_compile_options(flagscale_settings INTERFACE -Werror)
endif()
if(FLAGSCALE_SANITIZE)
  string(REPLACE ";" "," _sanitizers "${FLAGSCALE_SANITIZE}")
  target_compile_options(flagscale_settings INTERFACE -fsanitize=${_sanitizers} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${_sanitizers})
endif()
