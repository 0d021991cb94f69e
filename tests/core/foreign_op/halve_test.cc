#include "tests/core/foreign_op/halve.h"

#include <gtest/gtest.h>

#include "op/op_testing.h"
#include "plan/program.h"

namespace flagscale::foreign {
namespace {

TEST(ForeignOp, TracesPlansReplaysAndHasAGradient) {
  const auto allocator = make_cpu_allocator();
  const Team team(1);
  Program program("halve");
  Arena arena;
  const Tensor x = arena.persistent("x", {4, 8}, DType::kF32);
  Tracer tracer(program);
  Tape tape = op::make_tape();
  tape.require(x);
  Context context{tracer, &tape};
  const Tensor y = halve(context, op::add(context, x, x));
  tape.seed(y, x);
  tape.backward(tracer);
  const Tensor dx = tape.grad(x);  // x / 2 from each use
  program.keep(y);
  program.keep(dx);
  program.plan(machine_isa(), 1);
  arena.add(program);
  arena.bind(*allocator);
  for (int i = 0; i < 32; ++i) x.data<float>()[i] = static_cast<float>(i);
  program.run(team);
  for (int i = 0; i < 32; ++i) {
    EXPECT_EQ(y.data<float>()[i], static_cast<float>(i));
    EXPECT_EQ(dx.data<float>()[i], static_cast<float>(i));
  }
}

TEST(ForeignOp, ShowsInTheCoverageTable) {
  for (const KernelSlotBase* slot : coverage())
    if (slot->name() == std::string("halve")) {
      for (int isa = 0; isa <= static_cast<int>(Isa::kAvx512Bf16); ++isa)
        EXPECT_TRUE(slot->has(DeviceKind::kCpu, static_cast<Isa>(isa)));
      EXPECT_FALSE(slot->has(DeviceKind::kCuda, Isa::kScalar));
      return;
    }
  FAIL() << "halve is not in the table";
}

}  // namespace
}  // namespace flagscale::foreign
