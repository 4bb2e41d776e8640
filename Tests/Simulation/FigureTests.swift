import Base
import Testing

/// `SIMULATION_FIGURES=1` prints the table of docs/resilience.md: of all seeds the worst, each row by itself.
@Suite("Figures", .enabled(if: environment("SIMULATION_FIGURES") != nil))
struct FigureTests {
    private static func rounded(_ value: Double) -> Double { (value * 100).rounded() / 100 }

    @Test("the table")
    func table() {
        let during = ChaosTests.during
        let rows: [(String, Scenario.Trouble.Kind)] = [
            ("answers 500", .errors(every: 1)), ("every second answer is 500", .errors(every: 2)), ("hangs", .hang),
            ("answers in 2 s", .slow(.seconds(2))), ("answers in 0.6 s", .slow(.milliseconds(600))), ("is killed", .dead),
        ]
        for (name, kind) in rows {
            let runs = Seeds.all.map { Simulator.run(ChaosTests.scenario(kind), seed: $0) }
            func worst(_ value: (Outcome) -> Double) -> Double { Self.rounded(runs.map(value).max() ?? 0) }
            print(
                "| \(name) | \(worst { Double($0.failed()) }) | \(worst { Double($0.hits.count) })",
                "| \(worst { Double($0.calls.count { $0.milliseconds > 500 }) }) | \(worst { $0.percentile(0.99, during) })",
                "| \(worst { $0.percentile(0.999, during) }) | \(worst { ($0.ejections.first?.at ?? 5) - 5 })",
                "| \(worst { ($0.firstGood(of: 0, after: 15) ?? 99) - 15 }) |")
        }
        let flapping = Seeds.all.map { Simulator.run(ChaosTests.flappingScenario, seed: $0) }
        print(
            "| two flap |", flapping.map { $0.failed() }.max() ?? 0, "|", flapping.map(\.hits.count).max() ?? 0, "|",
            flapping.map { Self.rounded($0.percentile(0.99, during)) }.max() ?? 0, "|",
            flapping.map { Self.rounded($0.percentile(0.999, during)) }.max() ?? 0)
        let overloaded = Seeds.all.map { Simulator.run(ChaosTests.overloadedScenario, seed: $0) }
        print(
            "| overloaded | goodput", Self.rounded(overloaded.map { $0.goodput(6..<15) }.min() ?? 0), "| p99",
            Self.rounded(overloaded.map { $0.percentile(0.99, during) }.max() ?? 0), "| attempts",
            Self.rounded(overloaded.map(\.attemptsPerCall).max() ?? 0), "| failed after 16 s",
            overloaded.map { $0.failed(16..<25) }.max() ?? 0)
    }
}
