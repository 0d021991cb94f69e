#pragma once
// `flagscale checkpoint import` and `export`.

#include "app/command.h"

namespace flagscale {

void add_import(CLI::App& checkpoint);
void add_export(CLI::App& checkpoint);

}  // namespace flagscale
