import Base
import Testing

@Suite struct InstantTests {
    @Test("Adding saturates at never, and nothing is later than never")
    func saturates() {
        let now = Instant(nanoseconds: 1_000)
        #expect(now + Nanoseconds.seconds(1) == Instant(nanoseconds: 1_000_001_000))
        #expect(now + Nanoseconds(count: .max) == .never)
        #expect(Instant.never + Nanoseconds.seconds(1) == .never)
        #expect(now < .never)
    }

    @Test(
        "A duration becomes nanoseconds; what does not fit means for ever",
        arguments: [
            (Duration.milliseconds(1), 1_000_000), (.seconds(300), 300_000_000_000), (.zero, 0), (.nanoseconds(-5), -5),
            (.seconds(Int64.max), .max),
        ] as [(Duration, Int64)])
    func fromDuration(duration: Duration, count: Int64) {
        #expect(Nanoseconds(duration).count == count)
    }
}

@Suite struct ContentHashTests {
    @Test("FNV-1a's own test vectors", arguments: [("", "cbf29ce484222325"), ("a", "af63dc4c8601ec8c"), ("foobar", "85944171f73967e8")])
    func vectors(text: String, hash: String) {
        #expect("\(ContentHash(text.utf8))" == hash)
    }
}

@Suite struct SeededRandomTests {
    @Test("The same seed gives the same numbers, and a bound is kept")
    func seeded() {
        var first = SeededRandom(seed: 42)
        var second = SeededRandom(seed: 42)
        var counts = [Int](repeating: 0, count: 5)
        for _ in 0..<10_000 {
            let number = first.below(5)
            #expect(number == second.below(5))
            counts[number] += 1
        }
        #expect(counts.allSatisfy { (1800...2200).contains($0) }, "\(counts)")
    }
}

@Suite struct FieldErrorTests {
    @Test("An error names the place, what was expected and what was found")
    func words() {
        let path = ((FieldPath() / "spec") / "listeners")[0] / "portMapping" / "port"
        let error = FieldError(path: path, expected: "a port from 1 through 65535", found: "70000")
        #expect("\(error)" == "spec.listeners[0].portMapping.port: expected a port from 1 through 65535, found 70000")
    }
}
