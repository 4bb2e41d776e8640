import CLinux

/// What malloc says of the process's heap, in bytes. Takes the locks of its arenas: not for a worker.
public struct Heap: Sendable {
    /// Small blocks handed out.
    public let inUse: Int
    /// Small blocks kept for reuse.
    public let free: Int
    /// Large blocks, each mapped on its own.
    public let mapped: Int

    public static func measure() -> Heap {
        let heap = clinux_heap()
        return Heap(inUse: heap.in_use, free: heap.free, mapped: heap.mapped)
    }

    /// Gives free pages back to the system. Whoever allocates meanwhile waits.
    public static func trim() {
        clinux_heap_trim()
    }
}
