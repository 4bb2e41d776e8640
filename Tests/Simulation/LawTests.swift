import SimulatedMesh
import Testing

@Suite("Laws of the simulation")
struct LawTests {
    // In a debug build one seed of all takes a quarter of a minute. `simulate` tries thousands of them in release.
    @Test("each holds with one seed", arguments: Law.all)
    func holds(law: Law) {
        #expect(law.broken(by: 0) == [], "\(law.sentence)")
    }
}
