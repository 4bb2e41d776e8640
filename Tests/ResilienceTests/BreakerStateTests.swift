import Base
import Glibc
import ProxyConfig
import Testing

@testable import Resilience

@Suite("The breaker's state machine")
struct BreakerStateTests {
    static let now = Instant(nanoseconds: 100_000_000_000)
    static let later = now + Duration.seconds(30)
    static let rule = BreakerState.Rule(probeWait: .seconds(5), ramp: .seconds(10))
    static let plain = BreakerState.Rule()

    private typealias Phase = BreakerState.Phase

    /// A state that has lasted: what it waits for is there.
    static func due(_ phase: BreakerState.Phase) -> BreakerState {
        BreakerState(phase, at: phase == .ramping ? Instant(nanoseconds: now.nanoseconds - 10_000_000_000) : now)
    }

    static let events: [(name: String, event: BreakerState.Event)] = [
        ("trip", .trip(until: later)), ("time over", .time), ("check passed", .checkPassed), ("probes passed", .probesPassed),
        ("probe failed", .probeFailed(until: later)), ("forced open", .force(.forcedOpen, until: later)),
        ("disabled", .force(.disabled, until: later)), ("observing", .force(.observing, until: later)), ("released", .release),
        ("left", .leave), ("came back", .rejoin),
    ]

    /// Everything that moves, with probes and ramp; what is not here must not move.
    static let moves: [(from: BreakerState.Phase, event: String, to: BreakerState.Phase)] = [
        (.closed, "trip", .open), (.ramping, "trip", .open),
        (.open, "time over", .halfOpen), (.open, "check passed", .halfOpen),
        (.halfOpen, "time over", .halfOpen),
        (.halfOpen, "probes passed", .ramping), (.halfOpen, "probe failed", .open),
        (.ramping, "time over", .closed),
        (.forcedOpen, "time over", .ramping), (.forcedOpen, "released", .ramping),
        (.disabled, "time over", .closed), (.disabled, "released", .closed),
        (.observing, "time over", .closed), (.observing, "released", .closed),
        (.departed, "came back", .closed),
    ]

    @Test("every pair of state and event: it moves as the table says, and nowhere else")
    func table() {
        for phase in BreakerState.Phase.allCases {
            for (name, event) in Self.events {
                let before = Self.due(phase)
                let after = before.after(event, now: Self.now, rule: Self.rule)
                let expected: BreakerState.Phase =
                    switch (phase, name) {
                    case (.departed, "came back"): .closed
                    case (.departed, _): .departed
                    case (_, "left"): .departed
                    case (_, "forced open"): .forcedOpen
                    case (_, "disabled"): .disabled
                    case (_, "observing"): .observing
                    default: Self.moves.first { $0.from == phase && $0.event == name }?.to ?? phase
                    }
                #expect(after.phase == expected, "\(phase), \(name)")
                let isMove = Self.moves.contains { $0.from == phase && $0.event == name }
                if expected == phase, !isMove, !["forced open", "disabled", "observing"].contains(name) {
                    #expect(after == before, "\(phase), \(name)")
                }
            }
        }
    }

    @Test("before its time nothing moves, and nobody is trusted early")
    func early() {
        let soon = Instant(nanoseconds: Self.now.nanoseconds + 1)
        for state in [
            BreakerState(.open, at: soon), BreakerState(.halfOpen, at: soon), BreakerState(.forcedOpen, at: soon),
            BreakerState(.disabled, at: soon), BreakerState(.observing, at: soon),
            BreakerState(.ramping, at: Instant(nanoseconds: Self.now.nanoseconds - 9_999_999_999)),
        ] {
            #expect(state.after(.time, now: Self.now, rule: Self.rule) == state, "\(state.phase)")
            #expect(state.nextChange(rule: Self.rule) == soon, "\(state.phase)")
        }
    }

    @Test(
        "without probes open returns at once; without a ramp what returns is whole",
        arguments: [
            (BreakerState.Rule(), BreakerState.Phase.closed), (BreakerState.Rule(ramp: .seconds(1)), .ramping),
            (BreakerState.Rule(probeWait: .seconds(1)), .halfOpen),
        ])
    func shortcuts(rule: BreakerState.Rule, expected: BreakerState.Phase) {
        #expect(Self.due(.open).after(.time, now: Self.now, rule: rule).phase == expected)
        #expect(Self.due(.open).after(.checkPassed, now: Self.now, rule: rule).phase == expected)
        let returned = Self.due(.halfOpen).after(.probesPassed, now: Self.now, rule: rule)
        #expect(returned.phase == (rule.ramp > .zero ? .ramping : .closed))
    }

    @Test("instants survive the word; what no clock reads is never")
    func packing() {
        for phase in BreakerState.Phase.allCases {
            #expect(BreakerState(phase, at: Self.later).phase == phase)
            #expect(BreakerState(phase, at: Self.later).instant == Self.later)
            #expect(BreakerState(phase, at: .never).instant == .never)
        }
        #expect(BreakerState.closed.bits == 0)
    }

    @Test("docs/resilience.md draws exactly the moves of the table")
    func drawing() throws {
        let folder = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        let text = try #require(Self.read("/\(folder)/docs/resilience.md"))
        // `    closed --> open: trip`
        let drawn = text.split(separator: "\n").compactMap { line -> String? in
            let parts = line.split(separator: " ", omittingEmptySubsequences: true)
            guard parts.count >= 4, parts[1] == "-->", parts[0] != "[*]", parts[2].last == ":" else { return nil }
            return "\(parts[0]) \(parts[2].dropLast()) \(parts[3...].joined(separator: " "))"
        }
        #expect(Set(drawn) == Set(Self.moves.map { "\($0.from) \($0.to) \($0.event)" }))
        #expect(drawn.count == Self.moves.count)
    }

    private static func read(_ path: String) -> String? {
        guard let file = unsafe fopen(path, "r") else { return nil }
        defer { unsafe fclose(file) }
        var bytes: [UInt8] = []
        while case let byte = unsafe getc(file), byte != EOF { bytes.append(UInt8(truncatingIfNeeded: byte)) }
        return String(decoding: bytes, as: UTF8.self)
    }
}

@Suite("How long a breaker stays open")
struct OpenTimeTests {
    @Test(
        "linear and exponential, up to the bound",
        arguments: [
            (.linear, 30, 100, [30, 60, 90, 100, 100]), (.exponential(percent: 200), 5, 30, [5, 10, 20, 30, 30]),
            (.exponential(percent: 150), 4, 10, [4, 6, 9, 10, 10]), (.exponential(percent: 100), 3, 60, [3, 3, 3, 3, 3]),
            (.exponential(percent: 50), 3, 60, [3, 3, 3, 3, 3]), (.linear, 10, 1, [10, 10, 10, 10, 10]),
        ] as [(BreakerPolicy.Open.Backoff, Int, Int, [Int])])
    func times(backoff: BreakerPolicy.Open.Backoff, base: Int, longest: Int, expected: [Int]) {
        let open = OpenTime(BreakerPolicy.Open(base: .seconds(base), longest: .seconds(longest), backoff: backoff))
        var multiplier: UInt32 = 0
        var times: [Int] = []
        for _ in expected {
            multiplier = open.nextMultiplier(after: multiplier)
            times.append(Int(open.time(multiplier: multiplier).seconds))
        }
        #expect(times == expected)
        #expect(open.highestMultiplier <= UInt32(expected.count))
    }

    @Test("jitter only lengthens, by up to its share, over the whole of it")
    func jitter() {
        let open = OpenTime(BreakerPolicy.Open(base: .seconds(100), jitterPercent: 10))
        #expect(open.jitter(of: .seconds(100), draw: 0) == .zero)
        #expect(open.jitter(of: .seconds(100), draw: .max).seconds == 10)
        let none = OpenTime(BreakerPolicy.Open(base: .seconds(100), jitterPercent: 0))
        #expect(none.jitter(of: .seconds(100), draw: .max) == .zero)
    }
}

@Suite("Windows of calls")
struct RateWindowTests {
    @Test("a window of time forgets its oldest tenth, and all of it after a pause, however long")
    func time() {
        let window = RateWindow()
        let scale = RateWindow.Scale.time(bucket: 1_000_000_000)
        for second in 0..<10 {
            _ = window.add(
                isFailure: second < 4, isSlow: second.isMultiple(of: 2), scale: scale,
                now: Instant(nanoseconds: Int64(second) * 1_000_000_000))
        }
        func totals(_ second: Int64) -> RateWindow.Totals { window.totals(scale: scale, now: Instant(nanoseconds: second * 1_000_000_000)) }
        #expect(totals(9) == .init(calls: 10, failures: 4, slow: 5))
        #expect(totals(10) == .init(calls: 9, failures: 3, slow: 4))
        #expect(totals(12) == .init(calls: 7, failures: 1, slow: 3))
        #expect(totals(18) == .init(calls: 1, failures: 0, slow: 0))
        for pause in [19, 20, 1000, 65_535, 65_545] as [Int64] { #expect(totals(pause).calls == 0, "\(pause)") }
    }

    @Test("a window of calls holds the last nine to ten tenths", arguments: [(100, 91...100), (10, 10...10), (5, 10...10), (55, 55...60)])
    func calls(size: UInt32, expected: ClosedRange<UInt32>) throws {
        let trip = try #require(TripRule(.init(window: .calls(size), minimumCalls: 100_000)))
        let window = RateWindow()
        for call in 0..<1000 {
            _ = window.add(isFailure: call < 500, isSlow: false, scale: trip.scale, now: Instant(nanoseconds: 0))
            let totals = window.totals(scale: trip.scale, now: Instant(nanoseconds: 0))
            if call >= 200 { #expect(expected.contains(totals.calls), "\(totals)") }
            if call >= 620 { #expect(totals.failures == 0) }
        }
        // As soon as the window can be full it may decide.
        #expect(trip.minimumCalls <= expected.upperBound)
    }

    @Test("a bucket counts up to 65,535 calls and keeps its shares")
    func saturation() {
        let window = RateWindow()
        let scale = RateWindow.Scale.time(bucket: 1_000_000_000)
        for call in 0..<70_000 {
            _ = window.add(isFailure: call.isMultiple(of: 2), isSlow: false, scale: scale, now: Instant(nanoseconds: 5))
        }
        #expect(window.totals(scale: scale, now: Instant(nanoseconds: 5)) == .init(calls: 65_535, failures: 32_768, slow: 0))
    }
}
