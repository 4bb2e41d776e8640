import Base
import Testing

@testable import HTTP2

@Suite struct LibraryMemoryTests {
    @Test("blocks keep what was written to them, through growing, shrinking and being used again")
    func contents() {
        var random = SeededRandom(seed: 3)
        let memory = Memory()
        var blocks: [(address: Int, size: Int, mark: UInt8)] = []
        for round in 0..<20000 {
            let size = random.below(random.below(8) == 0 ? 10000 : 1200)
            let mark = UInt8(truncatingIfNeeded: round)
            switch random.below(3) {
            case 0:
                let address = memory.allocate(size)
                #expect(address % 16 == 0)
                memory.fill(address, size, mark)
                blocks.append((address, size, mark))
            case 1 where !blocks.isEmpty:
                let index = random.below(blocks.count)
                let old = blocks[index]
                let address = memory.reallocate(old.address, size)
                #expect(memory.holds(address, min(size, old.size), old.mark), "round \(round): \(old.size) to \(size) bytes")
                memory.fill(address, size, mark)
                blocks[index] = (address, size, mark)
            default:
                guard !blocks.isEmpty else { continue }
                let block = blocks.remove(at: random.below(blocks.count))
                #expect(memory.holds(block.address, block.size, block.mark), "round \(round)")
                memory.free(block.address)
            }
        }
        for block in blocks { memory.free(block.address) }
    }

    @Test("a freed block is used again, and what is kept has a bound")
    func bounded() {
        let memory = Memory()
        let first = memory.allocate(100)
        memory.free(first)
        #expect(memory.allocate(40) != first, "a smaller size has blocks of its own")
        #expect(memory.allocate(112) == first)
        memory.free(0)
        #expect(memory.reallocate(0, 10) != 0)
        let blocks = (0..<1000).map { _ in memory.allocate(2000) }
        for block in blocks { memory.free(block) }
        #expect(memory.memory.keptBytes > 400_000 && memory.memory.keptBytes < 600_000)
    }
}

/// The same with addresses as numbers; 0 is none.
private struct Memory {
    let memory = LibraryMemory()

    private func pointer(_ address: Int) -> UnsafeMutableRawPointer? { unsafe UnsafeMutableRawPointer(bitPattern: address) }

    func allocate(_ size: Int) -> Int { unsafe Int(bitPattern: memory.allocate(size)) }
    func reallocate(_ address: Int, _ size: Int) -> Int { unsafe Int(bitPattern: memory.reallocate(pointer(address), size)) }
    func free(_ address: Int) { unsafe memory.free(pointer(address)) }

    func fill(_ address: Int, _ size: Int, _ mark: UInt8) {
        unsafe pointer(address)!.initializeMemory(as: UInt8.self, repeating: mark, count: size)
    }

    func holds(_ address: Int, _ size: Int, _ mark: UInt8) -> Bool {
        let bytes = unsafe UnsafeRawBufferPointer(start: pointer(address)!, count: size)
        for index in 0..<size where unsafe bytes[index] != mark { return false }
        return true
    }
}
