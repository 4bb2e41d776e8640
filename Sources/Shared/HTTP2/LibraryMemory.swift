internal import CNghttp2
internal import Glibc

/// The memory of libnghttp2 in one worker's sessions: freed blocks are kept by size and used again.
///
/// The library allocates some eleven blocks for a request and its response, and with many streams open glibc's per-thread cache of seven
/// blocks a size is no help; this halves what they cost. One thread, no lock.
@safe final class LibraryMemory {
    /// Blocks are multiples of this many bytes, their header included.
    private static let granule = 64
    /// Larger blocks are not kept: a window's or a table's memory is asked for once.
    private static let classes = 64
    /// In front of each block, its class; 16 bytes, so that what follows is aligned for anything.
    private static let header = 16
    /// A thousand streams' worth. What is more goes back to the allocator.
    private static let maxKeptBytes = 1 << 19

    /// By class, the first kept block; the next is named where the library's bytes were.
    private let kept: UnsafeMutablePointer<UnsafeMutableRawPointer?>
    private(set) var keptBytes = 0

    init() {
        unsafe kept = .allocate(capacity: Self.classes + 1)
        unsafe kept.initialize(repeating: nil, count: Self.classes + 1)
    }

    deinit {
        for index in 0...Self.classes {
            while let block = unsafe kept[index] {
                unsafe kept[index] = Self.next(block)
                unsafe Glibc.free(block)
            }
        }
        unsafe kept.deallocate()
    }

    func allocate(_ size: Int) -> UnsafeMutableRawPointer? {
        let needed = (size &+ Self.header &+ Self.granule &- 1) / Self.granule
        guard needed <= Self.classes else { return unsafe Self.begin(Glibc.malloc(size &+ Self.header), 0) }
        if let block = unsafe kept[needed] {
            unsafe kept[needed] = Self.next(block)
            keptBytes &-= needed &* Self.granule
            return unsafe block + Self.header
        }
        return unsafe Self.begin(Glibc.malloc(needed &* Self.granule), needed)
    }

    func free(_ pointer: UnsafeMutableRawPointer?) {
        guard let pointer = unsafe pointer else { return }
        let block = unsafe pointer - Self.header
        let index = unsafe block.load(as: Int.self)
        guard index > 0, keptBytes < Self.maxKeptBytes else { return unsafe Glibc.free(block) }
        unsafe pointer.storeBytes(of: kept[index], as: UnsafeMutableRawPointer?.self)
        unsafe kept[index] = block
        keptBytes &+= index &* Self.granule
    }

    func reallocate(_ pointer: UnsafeMutableRawPointer?, _ size: Int) -> UnsafeMutableRawPointer? {
        guard let pointer = unsafe pointer else { return unsafe allocate(size) }
        let block = unsafe pointer - Self.header
        let index = unsafe block.load(as: Int.self)
        let needed = (size &+ Self.header &+ Self.granule &- 1) / Self.granule
        if index == 0, needed > Self.classes { return unsafe Self.begin(Glibc.realloc(block, size &+ Self.header), 0) }
        if index > 0, needed <= index { return unsafe pointer }
        guard let moved = unsafe allocate(size) else { return nil }
        // A large block that becomes a small one holds more than is wanted.
        unsafe moved.copyMemory(from: pointer, byteCount: index > 0 ? index &* Self.granule &- Self.header : size)
        unsafe free(pointer)
        return unsafe moved
    }

    private static func begin(_ block: UnsafeMutableRawPointer?, _ index: Int) -> UnsafeMutableRawPointer? {
        guard let block = unsafe block else { return nil }
        unsafe block.storeBytes(of: index, as: Int.self)
        return unsafe block + header
    }

    private static func next(_ block: UnsafeMutableRawPointer) -> UnsafeMutableRawPointer? {
        unsafe (block + header).load(as: UnsafeMutableRawPointer?.self)
    }

    // MARK: What the library calls

    /// Valid as long as this object.
    var functions: nghttp2_mem {
        unsafe nghttp2_mem(
            mem_user_data: Unmanaged.passUnretained(self).toOpaque(),
            malloc: { size, owner in unsafe LibraryMemory.of(owner) { unsafe $0.allocate(size) } },
            free: { pointer, owner in unsafe LibraryMemory.of(owner) { unsafe $0.free(pointer) } },
            calloc: { count, size, owner in
                let (bytes, overflow) = count.multipliedReportingOverflow(by: size)
                guard !overflow, let pointer = unsafe LibraryMemory.of(owner, { unsafe $0.allocate(bytes) }) else { return nil }
                return unsafe memset(pointer, 0, bytes)
            },
            realloc: { pointer, size, owner in unsafe LibraryMemory.of(owner) { unsafe $0.reallocate(pointer, size) } })
    }

    @inline(__always)
    private static func of<Result>(_ owner: UnsafeMutableRawPointer?, _ body: (LibraryMemory) -> Result) -> Result {
        unsafe Unmanaged<LibraryMemory>.fromOpaque(owner.unsafelyUnwrapped)._withUnsafeGuaranteedRef(body)
    }
}
