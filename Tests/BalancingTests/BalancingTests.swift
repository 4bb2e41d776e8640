// BalancingTests
