/// Something that must be true of every seed: a scenario is run, and what came of it is looked at.
///
/// `Tests/Simulation` tries a seed or two of each, `simulate` (Tests/Simulate) thousands.
package struct Law: Sendable {
    package let sentence: String
    /// So many times fewer seeds are tried: some take longer, and chance matters less where there are many callers.
    package let cost: Int
    private let body: @Sendable (UInt64, inout Findings) -> Void

    init(_ sentence: String, cost: Int = 1, body: @escaping @Sendable (UInt64, inout Findings) -> Void) {
        self.sentence = sentence
        self.cost = cost
        self.body = body
    }

    package static let all = chaos + fleet

    /// In what this seed breaks it; empty: in nothing.
    package func broken(by seed: UInt64) -> [String] {
        var findings = Findings()
        body(seed, &findings)
        return findings.all
    }
}

/// What one run broke.
struct Findings {
    private(set) var all: [String] = []

    mutating func atMost<Value: Comparable>(_ bound: Value, _ found: Value, _ what: String) {
        if found > bound { all.append("\(what): expected at most \(bound), found \(found)") }
    }

    mutating func atLeast<Value: Comparable>(_ bound: Value, _ found: Value, _ what: String) {
        if found < bound { all.append("\(what): expected at least \(bound), found \(found)") }
    }

    mutating func equal<Value: Equatable>(_ expected: Value, _ found: Value, _ what: String) {
        if found != expected { all.append("\(what): expected \(expected), found \(found)") }
    }

    /// Nil is never.
    mutating func by(_ seconds: Double, _ found: Double?, _ what: String) {
        if found.map({ $0 > seconds }) ?? true {
            all.append("\(what): expected by second \(seconds), found \(found.map { "\($0)" } ?? "never")")
        }
    }
}
