import Glibc
import SimulatedMesh
import Synchronization

/// How a seed broke a law.
struct Breach: Sendable {
    var seed: UInt64
    var findings: [String]

    private final class Seeds: Sendable {
        private let next: Atomic<UInt64>
        private let end: UInt64

        init(_ seeds: Range<UInt64>) {
            next = Atomic(seeds.lowerBound)
            end = seeds.upperBound
        }

        func take() -> UInt64? {
            let seed = next.add(1, ordering: .relaxed).oldValue
            return seed < end ? seed : nil
        }
    }

    /// Those of all these seeds, in their order. A task for each CPU takes the next seed that is left.
    static func all(of law: Law, seeds: Range<UInt64>) async -> [Breach] {
        let seeds = Seeds(seeds)
        return await withTaskGroup(of: [Breach].self) { group in
            for _ in 0..<max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))) {
                group.addTask {
                    var found: [Breach] = []
                    while let seed = seeds.take() {
                        let findings = law.broken(by: seed)
                        if !findings.isEmpty { found.append(Breach(seed: seed, findings: findings)) }
                    }
                    return found
                }
            }
            return await group.reduce(into: []) { $0 += $1 }.sorted { $0.seed < $1.seed }
        }
    }
}
