import SimulatedMesh
import Testing

@Suite("Laws of the simulation")
struct LawTests {
    // In a debug build one seed of all takes a quarter of a minute. `simulate` tries thousands of them in release.
    @Test("each holds with one seed", arguments: Law.all)
    func holds(law: Law) {
        #expect(law.broken(by: 0) == [], "\(law.sentence)")
    }

    /// Seeds that broke a law once, with what was wrong.
    @Test(
        "each holds with the seeds that broke it once",
        arguments: [
            // The budget of callers that had just begun was too small for three bad hosts of ten.
            ("hosts that fail at random for a while", 2),
            // Not called for most of a second, and so not judged in time: what the law says of it.
            ("every second answer of a host is a 500", 2944),
            // Out late, and for longer than the trouble lasted: back 3.7 s after it.
            ("every second answer of a host is a 500", 666),
        ] as [(String, UInt64)])
    func oldBreaches(sentence: String, seed: UInt64) throws {
        let law = try #require(Law.all.first { $0.sentence.hasPrefix(sentence) })
        #expect(law.broken(by: seed) == [])
    }
}
