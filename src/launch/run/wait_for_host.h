#pragma once

#include <chrono>
#include <string>

namespace flagscale::launch {

// Whether something takes a connection at HOST:PORT now.
bool answers(const std::string& host_and_port);

// Returns once something takes a connection at HOST:PORT. Throws Error{kResource} after `most`,
// Error{kInterrupted}.
void wait_for_host(const std::string& host_and_port, std::chrono::seconds most);

}  // namespace flagscale::launch
