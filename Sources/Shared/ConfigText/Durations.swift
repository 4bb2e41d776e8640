/// A duration as protobuf's JSON writes it, to the millisecond: `15s`, `0.250s`.
public func duration(_ value: Duration) -> String {
    let (seconds, attoseconds) = value.components
    let milliseconds = attoseconds / 1_000_000_000_000_000
    guard milliseconds != 0 else { return "\(seconds)s" }
    let digits = String(milliseconds)
    return "\(seconds).\(String(repeating: "0", count: 3 - digits.count))\(digits)s"
}
