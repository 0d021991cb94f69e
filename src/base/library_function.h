#pragma once
// Of libraries that are opened at run time.

#include <dlfcn.h>

namespace flagscale {

// False where the library, as dlopen() gave it, has no such function; `function` is null then.
template <class Function>
bool find_function(void* library, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(dlsym(library, name));
  return function != nullptr;
}

}  // namespace flagscale
