# flagscale_rust: the Rust static library behind src/text/rust_text.h (tokenizers, minijinja, llguidance, parquet).
#
# cargo builds it into FLAGSCALE_RUST_TARGET_DIR, which all build folders of a source tree share, so that a second one
# finds it made. The environment's CARGO and RUSTC name the tools where they are not called cargo and rustc.
set(FLAGSCALE_RUST_TARGET_DIR ${CMAKE_SOURCE_DIR}/.deps/rust CACHE PATH "Where cargo keeps what it builds")
find_program(FLAGSCALE_CARGO NAMES $ENV{CARGO} cargo REQUIRED DOC "Rust's cargo, 1.88 or newer")

set(_environment CARGO_TARGET_DIR=${FLAGSCALE_RUST_TARGET_DIR})
if(DEFINED ENV{RUSTC})
  set(FLAGSCALE_RUSTC $ENV{RUSTC} CACHE STRING "Rust's compiler, where cargo does not find it itself")
endif()
if(FLAGSCALE_RUSTC)
  list(APPEND _environment RUSTC=${FLAGSCALE_RUSTC})
endif()

set(_library ${FLAGSCALE_RUST_TARGET_DIR}/release/libflagscale_text.a)
file(GLOB _sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/rust/src/*.rs)
add_custom_command(
  OUTPUT ${_library}
  COMMAND ${CMAKE_COMMAND} -E env ${_environment} ${FLAGSCALE_CARGO} build --release --locked
  WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}/rust
  DEPENDS ${CMAKE_SOURCE_DIR}/rust/Cargo.toml ${CMAKE_SOURCE_DIR}/rust/Cargo.lock ${_sources}
  COMMENT "Building the Rust library (once)"
  USES_TERMINAL VERBATIM)
add_custom_target(flagscale_rust_build DEPENDS ${_library})

add_library(flagscale_rust STATIC IMPORTED GLOBAL)
set_target_properties(flagscale_rust PROPERTIES IMPORTED_LOCATION ${_library} INTERFACE_LINK_LIBRARIES "dl;m")
add_dependencies(flagscale_rust flagscale_rust_build)
