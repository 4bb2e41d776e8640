import Base
import Testing

@Suite struct ByteBufferTests {
    private func text(_ buffer: borrowing ByteBuffer) -> String {
        unsafe buffer.withUnsafeBytes { unsafe String(decoding: $0, as: UTF8.self) }
    }

    @Test("Whatever is appended and consumed, it holds what an array would", arguments: 0..<40)
    func likeAnArray(seed: Int) {
        var random = SeededRandom(seed: UInt64(seed))
        var buffer = ByteBuffer()
        var model: [UInt8] = []
        for step in 0..<400 {
            switch random.below(8) {
            case 0, 1:
                let bytes = (0..<random.below(700)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
                buffer.append(bytes)
                model += bytes
            case 2:
                buffer.append(UInt8(step & 255))
                model.append(UInt8(step & 255))
            case 3:
                buffer.append("literal")
                model += Array("literal".utf8)
            case 4, 5:
                let count = random.below(model.count + 1)
                buffer.consume(count)
                model.removeFirst(count)
            case 6:
                let count = random.below(model.count + 1)
                buffer.truncate(to: count)
                model.removeLast(model.count - count)
            default:
                if random.below(4) == 0 {
                    buffer.release()
                    model = []
                    #expect(buffer.allocatedBytes == 0)
                }
            }
            let held = unsafe buffer.withUnsafeBytes { unsafe [UInt8]($0) }
            #expect(held == model, "seed \(seed), step \(step)")
            #expect(buffer.count == model.count && buffer.isEmpty == model.isEmpty)
        }
    }

    @Test("An empty buffer owns nothing, and one that was emptied keeps its memory")
    func memory() {
        var buffer = ByteBuffer()
        #expect(buffer.allocatedBytes == 0)
        buffer.append("x")
        let kept = buffer.allocatedBytes
        buffer.removeAll()
        #expect(kept > 0 && buffer.allocatedBytes == kept)
    }

    @Test(
        "Numbers are written as people write them",
        arguments: [
            (0, "0", "0"), (7, "7", "7"), (10, "10", "a"), (255, "255", "ff"), (4096, "4096", "1000"),
            (Int.max, "9223372036854775807", "7fffffffffffffff"),
        ])
    func numbers(value: Int, decimal: String, hexadecimal: String) {
        var buffer = ByteBuffer()
        buffer.append(decimal: value)
        #expect(text(buffer) == decimal)
        buffer.removeAll()
        buffer.append(hexadecimal: value)
        #expect(text(buffer) == hexadecimal)
        buffer.removeAll()
        buffer.append(decimal: -value)
        #expect(text(buffer) == (value == 0 ? "0" : "-" + decimal))
    }
}
