#pragma once
// `flagscale checkpoint import`, `export`, `merge` and `unmerge`.

#include "app/command.h"

namespace flagscale {

void add_import(CLI::App& checkpoint);
void add_export(CLI::App& checkpoint);
void add_merge(CLI::App& checkpoint);  // and unmerge

}  // namespace flagscale
