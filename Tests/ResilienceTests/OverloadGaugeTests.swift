import Resilience
import Testing

struct OverloadGaugeTests {
    @Test(
        "what is given up depends on how full it is",
        arguments: [
            (0, .normal), (799, .normal), (800, .trim), (899, .trim), (900, .endKeepAlive), (949, .endKeepAlive), (950, .refuse),
            (979, .refuse), (980, .reset), (1000, .reset), (5000, .reset),
        ] as [(Int, OverloadLevel)])
    func levels(used: Int, expected: OverloadLevel) {
        var gauge = OverloadGauge()
        gauge.read(used: used, limit: 1000)
        #expect(gauge.level == expected)
    }

    @Test(
        "a level ends three points below where it begins, and nothing is given back before",
        arguments: [
            ([980, 951], .reset), ([980, 949], .refuse), ([980, 919], .endKeepAlive), ([980, 869], .trim), ([980, 769], .normal),
            ([800, 770], .trim), ([800, 769], .normal), ([800, 769, 799], .normal), ([950, 925, 921], .refuse),
            ([950, 919, 925], .endKeepAlive),
            ([770], .normal),
        ] as [([Int], OverloadLevel)])
    func hysteresis(readings: [Int], expected: OverloadLevel) {
        var gauge = OverloadGauge()
        for used in readings { gauge.read(used: used, limit: 1000) }
        #expect(gauge.level == expected)
    }

    @Test("a change of level is told once")
    func changes() {
        var gauge = OverloadGauge()
        let changes = [700, 810, 820, 790, 960, 700].map { gauge.read(used: $0, limit: 1000) }
        #expect(changes == [false, true, false, false, true, true])
    }

    @Test("without a limit there is no overload, and a limit that goes ends it")
    func unlimited() {
        var gauge = OverloadGauge()
        gauge.read(used: .max, limit: nil)
        #expect(gauge.level == .normal)
        #expect(gauge.percent == 0)
        #expect(gauge.excess(over: .trim) == 0)
        gauge.read(used: 99, limit: 100)
        #expect(gauge.level == .reset)
        gauge.read(used: 99, limit: nil)
        #expect(gauge.level == .normal)
    }

    @Test("sizes beyond all machines, and none, are counted right")
    func extremes() {
        var gauge = OverloadGauge()
        gauge.read(used: .max / 2, limit: .max)
        #expect(gauge.percent == 50)
        gauge.read(used: .max, limit: .max)
        #expect(gauge.level == .reset)
        gauge.read(used: 1, limit: 0)
        #expect(gauge.level == .reset)
        gauge.read(used: 0, limit: 0)
        #expect(gauge.level == .normal)
    }

    @Test("what must go leads just below the line")
    func excess() {
        var gauge = OverloadGauge()
        gauge.read(used: 1000, limit: 1000)
        #expect(gauge.line(of: .trim) == 800)
        #expect(gauge.excess(over: .trim) == 200)
        #expect(gauge.excess(over: .refuse) == 50)
        gauge.read(used: 700, limit: 1000)
        #expect(gauge.excess(over: .trim) == 0)
    }

    @Test(
        "some descriptors are not for traffic",
        arguments: [(1024, 896), (65536, 65408), (256, 224), (8, 7), (0, 0)])
    func reserve(limit: Int, capacity: Int) {
        #expect(DescriptorReserve.capacity(limit: limit) == capacity)
    }
}
