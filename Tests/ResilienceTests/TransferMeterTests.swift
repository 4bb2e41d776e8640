import Base
import Resilience
import Testing

struct TransferMeterTests {
    private static let begun = Instant(nanoseconds: 1_000_000_000)

    /// Looks every 5 s at a body that moves as given; the time of the look at which it lags by 300 s at 500 bytes a second, nil = never.
    private static func end(_ bytesPerLook: [UInt64], isWaiting: (Int) -> Bool = { _ in true }, looks: Int = 10_000) -> Int? {
        var meter = TransferMeter()
        var moved: UInt64 = 0
        for look in 0..<looks {
            moved += bytesPerLook[look % bytesPerLook.count]
            if meter.lags(
                begun, moved: moved, isWaiting: isWaiting(look), elapsed: .seconds(5), rate: 500, patience: .seconds(300))
            {
                return look * 5
            }
        }
        return nil
    }

    @Test(
        "a byte a second is worth no more than silence; what moves at the rate lives for ever",
        arguments: [([0], 300), ([5], 305), ([250], 335), ([2000], 1500), ([2500], nil), ([100_000], nil), ([10_000, 0, 0, 0], nil)]
            as [([UInt64], Int?)])
    func ends(bytesPerLook: [UInt64], after: Int?) {
        #expect(Self.end(bytesPerLook) == after)
    }

    @Test("only time in which bytes wait counts")
    func waiting() {
        #expect(Self.end([0], isWaiting: { _ in false }) == nil)
        #expect(Self.end([0], isWaiting: { $0 % 2 == 0 }) == 600)
    }

    @Test("a great piece pays for what was missed, and for nothing that comes later")
    func credit() {
        let piece = [1_000_000] + [UInt64](repeating: 0, count: 9_999)
        #expect(Self.end([0] + piece) == 305)
    }

    @Test("another stream begins from nothing")
    func next() {
        var meter = TransferMeter()
        for look in 0..<59 {
            let lags = meter.lags(Self.begun, moved: 0, isWaiting: true, elapsed: .seconds(5), rate: 500, patience: .seconds(300))
            #expect(!lags, "look \(look)")
        }
        let other = Instant(nanoseconds: 2_000_000_000)
        for _ in 0..<59 {
            let lags = meter.lags(other, moved: 7, isWaiting: true, elapsed: .seconds(5), rate: 500, patience: .seconds(300))
            #expect(!lags)
        }
    }

    @Test("a rate of 0 asks nothing, and counters that go back do no harm")
    func edges() {
        var meter = TransferMeter()
        for _ in 0..<1000 {
            let lags = meter.lags(Self.begun, moved: 0, isWaiting: true, elapsed: .seconds(5), rate: 0, patience: .seconds(300))
            #expect(!lags)
        }
        let first = meter.lags(Self.begun, moved: .max, isWaiting: true, elapsed: .seconds(5), rate: 1, patience: .seconds(300))
        #expect(!first)
        let lags = meter.lags(Self.begun, moved: 3, isWaiting: true, elapsed: .seconds(5), rate: 1, patience: .seconds(300))
        #expect(!lags)
    }
}
