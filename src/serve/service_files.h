#pragma once
// A server's configuration from where it is written: FlagScale's `serve` files and its composed tasks.

#include <string>

#include "config/compose.h"
#include "serve/service_config.h"

namespace flagscale::serve {

// A mapping of engine arguments into `config`; a key that `keys` does not have is an Error{kConfig} that
// names the nearest. null: nothing.
void read_arguments(const config::Schema<ServiceConfig>& keys, const config::NodePtr& arguments,
                    ServiceConfig& config);

// FlagScale's serve file: a list of entries with engine_args, or a mapping with such a list under `serve`,
// given by path. `overrides`: JSON object of further arguments, which win; `defaults` is what neither names.
// Throws Error{kConfig}, Error{kNotFound}.
ServiceConfig read_service_config(const std::string& yaml_path, const std::string& overrides,
                                  ServiceConfig defaults = {});

// A composed `serve` task. What experiment.runner.cli_args and .deploy say about model and port wins, as in
// FlagScale. Throws Error{kConfig}; Error{kUnsupported} for what is no text model behind an engine.
ServiceConfig read_serve_task(const config::Composed& composed);

}  // namespace flagscale::serve
