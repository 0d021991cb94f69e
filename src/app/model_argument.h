#pragma once
// MODEL, as every command takes it, in this order: an existing path (Hugging Face folder, checkpoint, .gguf);
// the name of a folder under ./examples or the installed ones; owner/name on the hub, fetched where it is not
// in the cache. Else an error that lists them all.

#include <string>
#include <vector>

namespace flagscale {

// A path to load weights from. An example's name gives the checkpoints of its training (save, or
// exp_dir, of conf/train.yaml), or where there are none, the model that conf/serve.yaml names.
std::string model_path(const std::string& model);

// Whether it is to be taken as a path: it exists and holds a model, or exists and is no example's name.
bool is_model_path(const std::string& model);

// The folder conf/ of an example by name, or "" when there is none.
std::string example_conf(const std::string& name);

// The names of the examples there are, sorted.
std::vector<std::string> example_names();

// Throws the error that lists what MODEL may be; hub: what the hub said of it.
[[noreturn]] void unknown_model(const std::string& model, const std::string& hub = {});

}  // namespace flagscale
