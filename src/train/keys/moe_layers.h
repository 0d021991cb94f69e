#pragma once
// Megatron's moe_layer_freq.

#include <string>
#include <vector>

namespace flagscale::train {

// The layers that are no mixtures: all but every nth from the first, or those with a 0 in a list as Python
// writes it ("[0]*2+([1]+[0])*5"). Throws Error{kConfig} for anything else and for a list of another length.
std::vector<int> dense_layers(const std::string& frequency, int layers);

}  // namespace flagscale::train
