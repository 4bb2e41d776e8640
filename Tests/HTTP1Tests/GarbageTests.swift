import Base
import HTTP
import HTTP1
import Testing

@Suite struct GarbageTests {
    @Test("no bytes make a decoder trap, go back, or depend on how they are cut")
    func mutations() {
        var random = SeededRandom(seed: 7)
        let seeds =
            acceptedRequests.map(\.0) + refusedBodies.map { "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + $0.0 }
        let alphabet: [UInt8] = [0, 9, 10, 13, 32, 34, 35, 44, 58, 59, 48, 53, 97, 127, 128, 255]
        for round in 0..<3000 {
            var bytes = Array(seeds[random.below(seeds.count)].utf8.prefix(600))
            for _ in 0..<random.below(4) {
                let index = random.below(bytes.count)
                switch random.below(3) {
                case 0: bytes[index] = alphabet[random.below(alphabet.count)]
                case 1: bytes.remove(at: index)
                default: bytes.insert(alphabet[random.below(alphabet.count)], at: index)
                }
                if bytes.isEmpty { bytes = [0] }
            }
            // A line is judged once its end is there; without one, how early its fault is seen does depend on the cut.
            bytes += Array("\r\n\r\n".utf8)
            let whole = Transcript.requests(bytes)
            let cut = random.below(bytes.count)
            let cuts = round % 2 == 0 ? [cut] : Array(0..<bytes.count)
            #expect(withoutOpenBody(Transcript.requests(bytes, cutAt: cuts)) == withoutOpenBody(whole), "round \(round): \(bytes)")
        }
    }

    /// A refusal ends the transcript before the body that was open is shown, so only finished lines compare.
    private func withoutOpenBody(_ lines: [String]) -> [String] {
        lines.filter { !$0.hasPrefix("open ") && !$0.hasPrefix("left ") }
    }
}
