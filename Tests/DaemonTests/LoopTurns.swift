import Base
import Reactor
import TestSupport

extension EventLoop {
    /// Goes round until something has happened.
    func turn(until isDone: () -> Bool) throws {
        let deadline = Clock.now() + .seconds(30)
        while !isDone() {
            guard Clock.now() < deadline else { throw TestFailure("nothing has happened") }
            turn(maximumWait: .milliseconds(10))
        }
    }
}
