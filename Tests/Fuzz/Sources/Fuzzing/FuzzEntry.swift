/// What a fuzz entry under libFuzzer is, and what entries share.
internal import Glibc

/// Inputs to start from, and a check that ends the process when a law is broken.
///
/// libFuzzer brings `main` and calls two C functions (compiler-rt, FuzzerInterface.h), which the entry's file has to define:
/// `LLVMFuzzerInitialize` calls `initialize()`, `LLVMFuzzerTestOneInput` calls `run`.
public protocol FuzzEntry {
    /// Valid and nearly valid inputs, which libFuzzer changes.
    static func seeds() throws -> [[UInt8]]

    /// Must not trap, read out of bounds, or break a law (`require`), whatever the bytes are.
    static func test(_ input: [UInt8])
}

extension FuzzEntry {
    /// With OUTRIGGER_FUZZ_SEEDS set, writes the seeds into that folder and ends the process.
    public static func initialize() -> CInt {
        guard let folder = unsafe getenv("OUTRIGGER_FUZZ_SEEDS").map({ unsafe String(cString: $0) }) else { return 0 }
        do {
            for (index, seed) in try seeds().enumerated() { try write(seed, to: "\(folder)/seed-\(index)") }
        } catch {
            print("\(error)")
            exit(1)
        }
        exit(0)
    }

    /// The copy is of the input's size, so that the sanitizer sees a read beyond it.
    public static func run(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
        test(unsafe Array(UnsafeBufferPointer(start: data, count: count)))
        return 0
    }

    private static func write(_ bytes: [UInt8], to path: String) throws {
        guard let file = unsafe fopen(path, "w") else { throw FuzzFailure("cannot write \(path): errno \(errno)") }
        let written = unsafe fwrite(bytes, 1, bytes.count, file)
        guard unsafe fclose(file) == 0, written == bytes.count else { throw FuzzFailure("cannot write \(path): errno \(errno)") }
    }
}

public struct FuzzFailure: Error, CustomStringConvertible {
    public var description: String

    public init(_ description: String) {
        self.description = description
    }
}

/// Ends the process with `law` unless the condition holds; libFuzzer then keeps the input.
public func require(_ condition: Bool, _ law: @autoclosure () -> String) {
    if !condition { fatalError(law()) }
}
