#pragma once
// oneDNN's product of two matrices with everything made ahead, as the peer of our own.

#include <cstdint>
#include <memory>

#include "tensor/tensor.h"

namespace flagscale::bench {

class ProductPeer {
 public:
  // out = op(a) op(b); both of one type, fp32 or bf16.
  ProductPeer(const Tensor& a, const Tensor& b, const Tensor& out, bool trans_a, bool trans_b);
  ~ProductPeer();
  void run() const;
  static bool available();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace flagscale::bench
