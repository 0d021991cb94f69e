#pragma once
// Ctrl-C and SIGTERM ask for a clean stop: long loops look at interrupted() and leave what is done in order.
// A second signal ends the process at once.

namespace flagscale {

void install_interrupt_handler();
bool interrupted();
void throw_if_interrupted();  // Error{kInterrupted}

}  // namespace flagscale
