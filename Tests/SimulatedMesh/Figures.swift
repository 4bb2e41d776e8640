import Base

/// The table of docs/resilience.md: of all seeds the worst, each figure by itself.
package enum FigureTable {
    private static func rounded(_ value: Double) -> Double { (value * 100).rounded() / 100 }

    package static func lines(seeds: [UInt64]) -> [String] {
        let rows: [(String, Scenario.Trouble.Kind)] = [
            ("answers 500", .errors(every: 1)), ("every second answer is 500", .errors(every: 2)), ("hangs", .hang),
            ("answers in 2 s", .slow(.seconds(2))), ("answers in 0.6 s", .slow(.milliseconds(600))), ("is killed", .dead),
        ]
        var lines = rows.map { name, kind in
            let runs = seeds.map { Simulator.run(.trouble(kind), seed: $0) }
            func worst(_ value: (Outcome) -> Double) -> String { "\(rounded(runs.map(value).max() ?? 0))" }
            return cells([
                name, worst { Double($0.failed()) }, worst { Double($0.hits.count) },
                worst { Double($0.calls.count { $0.milliseconds > 500 }) }, worst { $0.percentile(0.99, Law.during) },
                worst { $0.percentile(0.999, Law.during) }, worst { ($0.ejections.first?.at ?? 5) - 5 },
                worst { ($0.firstGood(of: 0, after: 15) ?? 99) - 15 },
            ])
        }
        let flapping = seeds.map { Simulator.run(.flapping, seed: $0) }
        lines.append(
            cells([
                "two flap, 2 s each way", "\(flapping.map { $0.failed() }.max() ?? 0)", "\(flapping.map(\.hits.count).max() ?? 0)",
                "\(flapping.map { $0.calls.count { $0.milliseconds > 500 } }.max() ?? 0)",
                "\(rounded(flapping.map { $0.percentile(0.99, Law.during) }.max() ?? 0))",
                "\(rounded(flapping.map { $0.percentile(0.999, Law.during) }.max() ?? 0))", "", "",
            ]))
        let overloaded = seeds.map { Simulator.run(.overloaded, seed: $0) }
        lines.append(
            """
            overloaded: goodput \(rounded(overloaded.map { $0.goodput(6..<15) }.min() ?? 0)), \
            p99 \(rounded(overloaded.map { $0.percentile(0.99, Law.during) }.max() ?? 0)) ms, \
            attempts a call \(rounded(overloaded.map(\.attemptsPerCall).max() ?? 0)), \
            failed from second 16 on \(overloaded.map { $0.failed(16..<20) }.max() ?? 0)
            """)
        return lines
    }

    private static func cells(_ cells: [String]) -> String { "| " + cells.joined(separator: " | ") + " |" }
}
